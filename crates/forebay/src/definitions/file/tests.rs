//! Tests of definition files.

use super::*;

use crate::config::Environment;
use crate::definitions::DefinitionSet;

fn read(text: &str) -> Result<DefinitionFile, String> {
    let env = Environment::from([("HOOK_SECRET", "secret-of-the-sender")]);
    let set = DefinitionSet::from_texts(vec![("d.yaml".to_owned(), text.to_owned())], &env);
    let set = set.map_err(|problems| {
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        texts.join("\n")
    })?;
    let sources = set.sources.into_iter().map(|source| source.definition);
    Ok(DefinitionFile {
        sources: sources.collect(),
    })
}

#[test]
fn the_readme_example_is_valid() {
    let text = "\
sources:
  - name: My events
    sinks:
      - name: Events
        table: in.demo.events
        columns:
          - { name: id, type: uuid }
          - { name: user, type: path, path: user.id, rawString: true, defaultValue: 0 }
          - { name: total, type: template, template: 'Body(\"price\") * Body(\"count\")' }
";
    let definitions = read(text).unwrap();
    let source = &definitions.sources[0];
    assert_eq!(source.source_id().unwrap(), "my-events");
    let sink = &source.sinks[0];
    assert_eq!(sink.sink_id().unwrap(), "events");
    let request = sink.request("events");
    assert_eq!(request["table"]["tableId"], "in.demo.events");
    assert_eq!(
        request["table"]["mapping"]["columns"][1]["defaultValue"],
        "0"
    );
    let template = &request["table"]["mapping"]["columns"][2]["template"];
    assert_eq!(template["content"], "Body(\"price\") * Body(\"count\")");
}

/// A file with one column of these fields.
fn column(fields: &str) -> Result<Value, String> {
    let text = format!(
        "sources:\n  - name: a\n    sinks:\n      - table: in.a.b\n        columns:\n          - {fields}\n"
    );
    let definitions = read(&text)?;
    let request = definitions.sources[0].sinks[0].request("b");
    Ok(request["table"]["mapping"]["columns"][0].clone())
}

#[test]
fn scalars_are_taken_literally() {
    for written in [
        "07302",
        "007",
        "1.10",
        "no",
        "n",
        "y",
        "Yes",
        "true",
        "1e3",
        "0x1F",
        "0o17",
        "1_000",
        "12345678901234567890123",
        "2024-01-01",
        "-0",
        "+1",
        ".inf",
        ".nan",
        "1.0E+2",
        "12:30:45",
        "\"1.10\"",
        "'~'",
        "!!str 1.10",
        "!!str null",
        "\"null\"",
    ] {
        let bare = written
            .trim_start_matches("!!str ")
            .trim_matches(['"', '\'']);
        let column = column(&format!(
            "{{ name: {written}, type: path, path: {written}, defaultValue: {written} }}"
        ));
        let column = column.unwrap_or_else(|e| panic!("{written}: {e}"));
        for field in ["name", "path", "defaultValue"] {
            assert_eq!(column[field], bare, "{written}");
        }
    }
    let block =
        column("name: a\n            type: static\n            value: |\n              1.10\n");
    assert_eq!(block.unwrap()["value"], "1.10\n");
    let anchored = column("{ name: &a 1.50, type: static, value: *a }").unwrap();
    assert_eq!(
        (&anchored["name"], &anchored["value"]),
        (&"1.50".into(), &"1.50".into())
    );
}

#[test]
fn null_is_rejected_as_text() {
    for written in ["~", "null", "Null", ""] {
        let said = column(&format!("{{ name: a, type: static, value: {written} }}")).unwrap_err();
        assert!(said.contains("d.yaml:6:"), "{said}");
        assert!(
            said.contains("null in YAML") && said.contains("in quotes"),
            "{said}"
        );
    }
    let said = column("{ name: a, type: template, template: 1.10 }").unwrap_err();
    assert!(said.contains("d.yaml:6:"), "{said}");
    let said = read("sources: []\nsources: []\n").unwrap_err();
    assert!(said.contains("duplicate key \"sources\""), "{said}");
    let said = read("sources: []\n---\nsources: []\n").unwrap_err();
    assert!(said.contains("more than one document"), "{said}");
}

#[test]
fn secrets_come_from_the_environment_and_files() {
    let verify = |secrets: &str| {
        let text =
            format!("sources:\n  - name: a\n    verify: {{ type: github, secrets: {secrets} }}\n");
        let definitions = read(&text)?;
        Ok::<_, String>(definitions.sources[0].request("a")["verify"].clone())
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "from-a-file\n").unwrap();
    let list = format!(
        "['${{HOOK_SECRET}}', '${{file:{}}}', a$$b]",
        file.path().display()
    );
    let expected =
        json!({ "type": "github", "secrets": ["secret-of-the-sender", "from-a-file", "a$b"] });
    assert_eq!(verify(&list).unwrap(), expected);
    let said = verify("['${OTHER}']").unwrap_err();
    assert!(
        said.starts_with("secrets[0]: ") && said.contains(" --> d.yaml:3:39\n"),
        "{said}"
    );
    assert!(said.contains("OTHER"), "{said}");
}

#[test]
fn a_secret_is_in_no_message() {
    for verify in [
        "{ type: github, secrets: s3cret-text }",
        "{ type: github, secrets: 12345678 }",
        "{ type: github, secrets: { a: s3cret-text } }",
        "{ type: github, secrets: [[s3cret-text]] }",
        "{ type: github, secret: [s3cret-text] }",
        "{ typ: github, secrets: [s3cret-text] }",
        "{ type: github, secrets: ['s3cret-text'x] }",
        "\n      secrets:\n      - 's3cret-text'x\n",
        "\n      secrets:\n        -\n          's3cret-text'x\n",
        "\n      secrets: [\n        's3cret-text'x ]\n",
    ] {
        let text = format!("sources:\n  - name: a\n    verify: {verify}\n");
        let said = read(&text).unwrap_err();
        assert!(said.contains(" --> d.yaml:"), "{said}");
        assert!(
            !said.contains("s3cret") && !said.contains("1234"),
            "{verify}: {said}"
        );
    }
}

#[test]
fn the_fields_of_a_signature_are_checked() {
    let verify = |fields: &str| {
        let text = format!("sources:\n  - name: a\n    verify: {{ {fields} }}\n");
        read(&text).map(|file| file.sources[0].request("a")["verify"].clone())
    };
    let said = verify("type: gitlab").unwrap_err();
    assert!(
        said.starts_with("type is \"gitlab\", allowed is none, github, "),
        "{said}"
    );
    assert!(said.contains(" --> d.yaml:3:21\n"), "{said}");
    let said = verify("type: hmac, heder: X").unwrap_err();
    assert!(said.contains("did you mean header?"), "{said}");
    let said = verify("header: X").unwrap_err();
    assert!(said.contains("type is missing"), "{said}");
    let said = verify("type: stripe, tolerance: ~").unwrap_err();
    assert!(said.contains("null in YAML"), "{said}");
    let read = verify("type: hmac, header: 007, prefix: 1.10, hash: sha1").unwrap();
    let expected = json!({ "type": "hmac", "header": "007", "prefix": "1.10", "hash": "sha1" });
    assert_eq!(read, expected);
}

#[test]
fn strings_are_raw_unless_json_is_requested() {
    let raw = |fields: &str| column(fields).unwrap()["rawString"].clone();
    assert_eq!(raw("{ name: a, type: path, path: a }"), true);
    assert_eq!(
        raw("{ name: a, type: path, path: a, rawString: false }"),
        false
    );
    assert_eq!(raw("{ name: a, type: template, template: Ip() }"), true);
    assert_eq!(raw("{ name: a, type: uuid }"), Value::Null);
}

#[test]
fn a_typo_is_reported_with_its_line_and_a_suggestion() {
    let said = read("sources:\n  - name: a\n    sink: []\n").unwrap_err();
    assert_eq!(
        said,
        "sink is not a known key; did you mean sinks?\n --> d.yaml:3:5\n  |\n3 |     sink:***\n  |     ^^^^"
    );
    let said = read("sources: []\n").unwrap_err();
    assert!(said.contains("has no sources"), "{said}");
}
