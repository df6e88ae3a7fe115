use super::*;
use crate::expression::AttributeOf;

#[test]
fn attributes_are_compiled_with_their_names() {
    let text = "id: w\nsearchable: {order: $.input.id, total: '$.output.sum'}\nsteps:\n  - {id: a, agent_id: x}\n";
    let plan = definition(text).expect("a definition");
    let found: Vec<(&str, AttributeOf)> = plan.attributes.iter().map(|a| (&*a.name, a.of)).collect();
    assert_eq!(found, [("order", AttributeOf::Input), ("total", AttributeOf::Output)]);
}

#[test]
fn a_path_that_executions_cannot_be_found_by_has_its_place() {
    check(
        "id: w
searchable:
  user: $.context.user
  skus: $.input.lines[*].sku
  a b: $.input.x
  n: 7
steps:
  - {id: a, agent_id: x}
",
        "
        3:9 searchable.user: the path cannot be read at its column 1: the path of an attribute starts with $.input or $.output
        4:9 searchable.skus: the path cannot be read at its column 1: an attribute is one value: its path has names and indexes only, as $.input.lines[0].sku
        5:3 searchable.a b: `a b` cannot be a name: a name has only letters, digits, '_' and '-', this one has ' '; names have letters, digits, `_` and `-`, start with a letter or `_`, and have at most 64 characters
        6:6 searchable.n: the attribute `n` is a path, not 7; as in $.input.order_id
        ",
    );
    check(
        "id: w\nsearchable: $.input.day\nsteps:\n  - {id: a, agent_id: x}\n",
        "2:13 searchable: `searchable` is an object of names and paths, not \"$.input.day\"; as in {order: $.input.order_id}",
    );
}

#[test]
fn a_workflow_has_few_attributes() {
    let attributes: String = (0..17).map(|n| format!("  a{n}: $.input.a{n}\n")).collect();
    check(
        &format!("id: w\nsearchable:\n{attributes}steps:\n  - {{id: a, agent_id: x}}\n"),
        "3:3 searchable: there are at most 16 attributes, not 17",
    );
}

#[test]
fn retention_is_between_a_second_and_ten_years() {
    for wrong in ["0", "999", "316224000001", "1.5"] {
        check(
            &format!("id: w\nretention_ms: {wrong}\nsteps:\n  - {{id: a, agent_id: x}}\n"),
            &format!(
                "2:15 retention_ms: `retention_ms` is a whole number of milliseconds from 1000 to 316224000000, not {wrong}"
            ),
        );
    }
}
