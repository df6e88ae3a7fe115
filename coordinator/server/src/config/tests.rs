use super::*;

#[test]
fn without_any_source_the_defaults_hold() {
    let loaded = load(Sources::default()).expect("the defaults are valid");
    assert_eq!(loaded.config.nats.url, "nats://127.0.0.1:4222");
    assert_eq!(loaded.config.listen, LISTEN);
    assert_eq!(loaded.config.partitions, PARTITIONS);
    assert_eq!(loaded.config.defaults, Defaults::default());
    assert_eq!(loaded.unknown_variables, Vec::<String>::new());
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let file =
        written("precedence.yaml", "listen: 127.0.0.1:1\nreplicas: 3\nprefix: file\ndefaults:\n  max_attempts: 7\n");
    let loaded = load(Sources {
        file: Some(file.0.clone()),
        environment: variables(&[("MILLSTREAM__LISTEN", "127.0.0.1:2"), ("MILLSTREAM__PREFIX", "variable")]),
        flags: vec![("listen", "127.0.0.1:3".to_owned())],
    });
    let config = loaded.expect("valid").config;
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.nats.names.to_string(), "variable");
    assert_eq!(config.replicas, 3);
    assert_eq!(config.defaults.max_attempts, 7);
    assert_eq!(config.defaults.max_parallel, Defaults::default().max_parallel);
}

#[test]
fn a_password_of_digits_stays_as_it_is() {
    let environment = variables(&[("MILLSTREAM__NATS__PASSWORD", "007"), ("MILLSTREAM__PARTITIONS", "16")]);
    let config = load(Sources { environment, ..Sources::default() }).expect("valid").config;
    assert_eq!(config.nats.password.as_deref(), Some("007"));
    assert_eq!(config.partitions, 16);
}

#[test]
fn every_setting_can_be_given_by_its_variable_and_by_its_key_in_a_file() {
    let values = [
        ("nats.url", "nats://a:1"),
        ("nats.creds_file", "/creds"),
        ("listen", "127.0.0.1:1"),
        ("partitions", "4"),
        ("storage", "memory"),
        ("audit.backends", "none"),
        ("audit.routing", "false"),
        ("replicas", "3"),
        ("history.retention_ms", "5000"),
        ("defaults.backoff_multiplier", "1.5"),
    ];
    let value_of = |key: &str| values.iter().find(|(known, _)| *known == key).map_or("7", |(_, value)| value);
    for setting in SETTINGS {
        let value = if setting.key == "node" || setting.key == "prefix" { "name" } else { value_of(setting.key) };
        let environment = variables(&[(setting.variable().as_str(), value)]);
        let loaded = load(Sources { environment, ..Sources::default() });
        let loaded = loaded.unwrap_or_else(|error| panic!("{}: {error}", setting.key));
        assert!(loaded.unknown_variables.is_empty(), "{}", setting.key);
        let by_variable = shown(&loaded.config);
        assert_ne!(by_variable, shown(&CoordinatorConfig::default()), "{} changes nothing", setting.key);

        let text = format!("\"{}\" = \"{value}\"\n", setting.key.replace('.', "\".\""));
        let file = written(&format!("{}.toml", setting.key), &text);
        let loaded = load(Sources { file: Some(file.0.clone()), ..Sources::default() });
        let by_file = loaded.unwrap_or_else(|error| panic!("{}: {error}", setting.key));
        assert_eq!(shown(&by_file.config), by_variable);
    }
}

#[test]
fn a_variable_that_is_no_setting_is_named_and_left_alone() {
    let environment = variables(&[("MILLSTREAM__LISEN", "x"), ("MILLSTREAM_SERVER", "y"), ("PATH", "z")]);
    let loaded = load(Sources { environment, ..Sources::default() }).expect("valid");
    assert_eq!(loaded.unknown_variables, ["MILLSTREAM__LISEN"]);
}

#[test]
fn what_cannot_be_used_is_refused_with_its_name() {
    for (key, value, message) in [
        ("partitions", "0", "partitions is 0, and must be 1 to 256"),
        ("partitions", "many", "many"),
        ("replicas", "2", "replicas is 2, and must be 1, 3 or 5"),
        ("prefix", "a.b", "prefix 'a.b'"),
        ("node", "a b", "node 'a b'"),
        ("listen", "localhost", "socket address"),
        ("storage", "tape", "tape"),
        ("history.retention_ms", "999", "history.retention_ms is 999"),
        ("defaults.max_attempts", "0", "defaults.max_attempts is 0"),
        ("defaults.backoff_multiplier", "NaN", "defaults.backoff_multiplier is NaN"),
    ] {
        let flags = vec![(key, value.to_owned())];
        let error = load(Sources { flags, ..Sources::default() }).expect_err(key).to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_file_with_an_unknown_setting_or_none_at_all_is_refused() {
    let file = written("unknown.yaml", "nats:\n  uri: nats://a:1\n");
    let error = load(Sources { file: Some(file.0.clone()), ..Sources::default() }).expect_err("unknown").to_string();
    assert!(error.contains("'nats.uri', which is not a setting"), "{error}");

    let error = load(Sources { file: Some("/nowhere.yaml".into()), ..Sources::default() }).expect_err("absent");
    assert!(error.to_string().contains("/nowhere.yaml cannot be read"), "{error}");
}

/// A configuration with the credentials that its debug form leaves out.
fn shown(config: &CoordinatorConfig) -> String {
    let BrokerConfig { user, password, token, creds_file, .. } = &config.nats;
    format!("{config:?} {user:?} {password:?} {token:?} {creds_file:?}")
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A file that is gone when the test is.
struct Written(PathBuf);

impl Drop for Written {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

fn written(name: &str, text: &str) -> Written {
    let path = std::env::temp_dir().join(format!("millstream-{}-{name}", std::process::id()));
    std::fs::write(&path, text).expect("a file");
    Written(path)
}
