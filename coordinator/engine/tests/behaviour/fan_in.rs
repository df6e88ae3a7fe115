use super::check::check;

const BRANCHES: &str = "
  - {id: a, agent_id: x, condition: $.input.a}
  - {id: b, agent_id: x, fan_out: {items: $.input.b}}
  - {id: c, agent_id: x}";

fn joined(aggregate: &str) -> String {
    format!("{BRANCHES}\n  - {{id: all, depends_on: [a, b, c], fan_in: {{from: [a, b, c], aggregate: {aggregate}}}}}")
}

#[test]
fn list_joins_outputs_in_order_and_keeps_places() {
    check(
        &joined("list"),
        r#"submit {"a": false, "b": [1, 2]}
           ok c #1 "c"
           ok b[1] #1 "b1"
           ok b[0] #1 "b0""#,
        r#"1 publish b[0] #1
           1 publish b[1] #1
           1 publish c #1
           4 end COMPLETED
           --
           COMPLETED [null,"b0","b1","c"]
           a SKIPPED: its condition is false
           b COMPLETED ["b0","b1"]
           c COMPLETED "c"
           all COMPLETED [null,"b0","b1","c"]"#,
    );
}

#[test]
fn merge_joins_objects_and_later_ones_win() {
    check(
        &joined("merge"),
        r#"submit {"a": true, "b": [1]}
           ok a #1 {"x": 1, "y": 1}
           ok b[0] #1 {"y": 2}
           ok c #1 {"z": 3}"#,
        r#"1 publish a #1
           1 publish b[0] #1
           1 publish c #1
           4 end COMPLETED
           --
           COMPLETED {"x":1,"y":2,"z":3}
           a COMPLETED {"x": 1, "y": 1}
           b COMPLETED [{"y": 2}]
           c COMPLETED {"z": 3}
           all COMPLETED {"x":1,"y":2,"z":3}"#,
    );
}

#[test]
fn merge_of_what_is_no_object_fails() {
    check(
        "
  - {id: a, agent_id: x}
  - {id: all, depends_on: [a], fan_in: {from: [a], aggregate: merge}}",
        "submit
         ok a #1 7",
        "1 publish a #1
         2 end FAILED
         --
         FAILED partial INVALID_INPUT: fan_in merge joins objects, one of the outputs is a number
         a COMPLETED 7
         all FAILED INVALID_INPUT: fan_in merge joins objects, one of the outputs is a number",
    );
}

#[test]
fn first_is_the_successful_output_with_the_lowest_place() {
    check(
        &joined("first"),
        r#"submit {"a": false, "b": []}
           ok c #1 "c""#,
        r#"1 publish c #1
           2 end COMPLETED
           --
           COMPLETED "c"
           a SKIPPED: its condition is false
           b COMPLETED []
           c COMPLETED "c"
           all COMPLETED "c""#,
    );
}
