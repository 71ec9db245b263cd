//! Templates against measured facts of the reference service (stream-semantics, section 2.2).

mod common;

use common::*;
use forebay_record::{CompiledMapping, RecordContext, RecordErrorKind, RowLimits};

fn sample() -> RecordContext {
    let headers = request(&[
        ("content-type", "application/json"),
        ("x-foo", "first"),
        ("x-foo", "second"),
        ("accept", "<&>"),
    ]);
    let body = r#"{"a":{"b":[1.50,2]},"s":"t\u00e9xt","n":null,"d":1,"d":2,"k.x":5,"big":12345678901234567890,"z":1,"y":2}"#;
    RecordContext::new(headers, body.as_bytes().into())
}

#[test]
fn functions_match_the_reference_service() {
    let record = sample();
    for (source, expected) in [
        ("Ip()", r#""1.2.3.4""#),
        ("Now()", r#""2026-11-21T17:57:09.043Z""#),
        ("Now('%Y-%m')", r#""2026-11""#),
        ("Now(format='%d')", r#""21""#),
        (
            "HeaderStr()",
            r#""Accept: <&>\nContent-Type: application/json\nX-Foo: first, second\n""#,
        ),
        (
            "Header()",
            r#"{"Accept":"<&>","Content-Type":"application/json","X-Foo":"first, second"}"#,
        ),
        ("Header('X-FOO')", r#""first, second""#),
        ("Header('zz', 'd')", r#""d""#),
        ("Header('zz', null)", "null"),
        ("Header('zz', {x: [1]})", r#"{"x":[1]}"#),
        ("Header(name='x-foo', default='d')", r#""first, second""#),
        ("std.length(BodyStr())", "104"),
        ("Body('a.b[0]')", "1.5"),
        ("Body('a.b.1')", "2"),
        ("Body('a')", r#"{"b":[1.5,2]}"#),
        ("Body('s')", r#""téxt""#),
        ("Body('n')", "null"),
        ("Body('n', 'd')", "null"),
        ("Body('d')", "1"),
        ("Body().d", "1"),
        ("Body()['k.x']", "5"),
        ("Body('zz', 'd')", r#""d""#),
        ("Body('zz', null)", "null"),
        ("Body('zz', [1, {a: 2}])", r#"[1,{"a":2}]"#),
        ("Body('')", "same as Body()"),
        (
            "std.sha256('x')",
            r#""2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881""#,
        ),
        ("std.format('%s-%03d', ['a', 7])", r#""a-007""#),
        ("local Body(x) = x + 1; Body(1)", "2"),
    ] {
        let expected = if source == "Body('')" {
            cell(template("Body()", false), &record).unwrap()
        } else {
            expected.to_owned()
        };
        assert_eq!(
            cell(template(source, false), &record).unwrap(),
            expected,
            "{source}"
        );
    }
    let whole = cell(template("Body()", false), &record).unwrap();
    assert_eq!(
        whole,
        r#"{"a":{"b":[1.5,2]},"big":12345678901234567000,"d":1,"k.x":5,"n":null,"s":"téxt","y":2,"z":1}"#
    );
}

#[test]
fn numbers_are_normalized_and_body_text_keeps_their_digits() {
    let numbers = [
        "7615917337495251231",
        "9007199254740993",
        "12345678901234567890123",
        "1.10",
        "10.00",
        "1E5",
        "-0",
        "0.1",
        "1e-7",
        "123456789.987654321",
        "5e-324",
        "1e308",
    ];
    for sent in numbers {
        let headers = request(&[("content-type", "application/json")]);
        let body = format!(r#"{{"id": {sent}, "all": [{sent}, {{"n": {sent}}}]}}"#);
        let record = RecordContext::new(headers, body.into_bytes().into());
        let cell = |source: &str| cell(template(source, true), &record).unwrap();
        let alone = cell("Body('id')");
        for source in [
            "'' + Body('id')",
            "std.toString(Body('id'))",
            "'%s' % Body('id')",
        ] {
            assert_eq!(cell(source), alone, "{source}: {sent}");
        }
        assert_eq!(
            cell("std.manifestJsonMinified([Body('id')])"),
            format!("[{alone}]")
        );
        assert_eq!(cell("BodyText('id')"), sent);
        assert_eq!(cell("'o-' + BodyText('id')"), format!("o-{sent}"));
        let all = format!(r#"[{sent},{{"n":{sent}}}]"#);
        assert_eq!(cell("BodyText('all')"), all);
        assert_eq!(
            cell("BodyText()"),
            format!(r#"{{"id":{sent},"all":{all}}}"#)
        );
    }
    let record = sample();
    for (source, expected) in [
        ("BodyText('s')", "téxt"),
        ("BodyText('n')", "null"),
        ("BodyText('d')", "1"),
        ("BodyText('zz', 'd')", "d"),
        ("BodyText('zz', null)", "null"),
        ("BodyText(path='a.b[0]', default='')", "1.50"),
        ("std.native('BodyText')('big', 0)", "12345678901234567890"),
    ] {
        assert_eq!(
            cell(template(source, true), &record).unwrap(),
            expected,
            "{source}"
        );
    }
    let error = cell(template("BodyText('zz')", true), &record).unwrap_err();
    assert_eq!(error.kind, RecordErrorKind::PathNotFound);
    // A number outside float64 still has its text.
    let headers = request(&[("content-type", "application/json")]);
    let huge = RecordContext::new(headers, br#"{"id":1e400}"#.as_slice().into());
    assert_eq!(
        cell(template("BodyText('id')", true), &huge).unwrap(),
        "1e400"
    );
    let error = cell(template("Body('id')", true), &huge).unwrap_err();
    assert!(error.message.contains("1e400"), "{}", error.message);
}

#[test]
fn the_standard_library_is_that_of_jsonnet() {
    for (source, expected) in [
        ("std.foldl(function(a, c) c + a, 'abé', '')", r#""éba""#),
        ("std.foldr(function(c, a) a + c, 'abc', '')", r#""cba""#),
        ("std.foldl(function(a, n) a + n, [1, 2], 0)", "3"),
        ("std.foldr(function(n, a) a + n, [], 7)", "7"),
        ("std.xor(true, false)", "true"),
        ("std.xnor(true, false)", "false"),
        ("std.strReplace('abab', 'b', 'c')", r#""acac""#),
        (r#"std.parseJson('{"a": 1, "a": [2, 1.50]}')"#, r#"{"a":1}"#),
        ("std.parseJson('[null, true, \"x\"]')", r#"[null,true,"x"]"#),
        ("std.length(std.map(function(x) x, [1]))", "1"),
        ("local std = {a: 1}; std.a", "1"),
    ] {
        assert_eq!(
            cell(template(source, false), &sample()).unwrap(),
            expected,
            "{source}"
        );
    }
    for source in [
        "std.xor(1, 2)",
        "std.xnor('a', true)",
        "std.strReplace('abc', '', 'x')",
        "std.foldl(function(a, c) a, 5, 0)",
        "std.parseJson('{')",
        "std.parseJson(5)",
    ] {
        let error = cell(template(source, false), &sample()).unwrap_err();
        assert_eq!(error.kind, RecordErrorKind::Template, "{source}");
        assert!(
            error.message.starts_with("1:"),
            "{source}: {}",
            error.message
        );
    }
}

#[test]
fn results_are_compact_json_with_sorted_keys() {
    for (source, expected) in [
        ("{b: 1, a: 2, c:: 3}", r#"{"a":2,"b":1}"#),
        ("1.50", "1.5"),
        ("1.0", "1"),
        ("12345678901234567890", "12345678901234567000"),
        ("9007199254740993", "9007199254740992"),
        ("1e22", "10000000000000000000000"),
        ("0.1+0.2", "0.30000000000000004"),
        ("-0.0", "-0"),
        ("1e21", "1000000000000000000000"),
        ("1e-7", "0.0000001"),
        ("'<>&'", r#""<>&""#),
        (r#""q\"\n\u0001\u00e9""#, r#""q\"\n\u0001é""#),
        ("[]", "[]"),
        ("{}", "{}"),
        ("[1, {a: []}]", r#"[1,{"a":[]}]"#),
        ("true", "true"),
        ("null", "null"),
        ("// only a comment at the end\n1 // like this", "1"),
    ] {
        assert_eq!(
            cell(template(source, false), &sample()).unwrap(),
            expected,
            "{source}"
        );
    }
    assert_eq!(
        cell(template("'q\"\\n'", true), &sample()).unwrap(),
        "q\"\n"
    );
    assert_eq!(cell(template("null", true), &sample()).unwrap(), "null");
    assert_eq!(
        cell(template("['x']", true), &sample()).unwrap(),
        r#"["x"]"#
    );
    assert_eq!(cell(template("5", true), &sample()).unwrap(), "5");
}

#[test]
fn time_formats() {
    for (format, expected) in [
        ("%Y %m %d %H %I %M %S %p", "2026 11 21 17 05 57 09 PM"),
        (
            "%a %A %b %B %y %Z %z %%",
            "Sat Saturday Nov November 26 UTC +0000 %",
        ),
        ("%f", "043"),
        ("%F %T %D %R", "2026-11-21 17:57:09 11/21/26 17:57"),
        ("%e|%j|%u|%w|%U|%W|%V|%C", "21|325|6|6|46|46|47|20"),
        ("%c", "Sat Nov 21 17:57:09 2026"),
        ("%v %r %k %l %h", "21-Nov-2026 05:57:09 PM 17  5 Nov"),
        ("%n%t", "\n\t"),
        ("žluť %Y", "žluť 2026"),
    ] {
        let source = format!("Now('{format}')");
        assert_eq!(cell(template(&source, true), &sample()).unwrap(), expected);
    }
    for format in ["%s", "%Q", "%", "%é", "%1"] {
        let source = format!("Now('{format}')");
        let error = cell(template(&source, true), &sample()).unwrap_err();
        assert_eq!(error.kind, RecordErrorKind::Template, "{format}");
    }
}

#[test]
fn failures_reject_the_record_with_their_position() {
    for (source, expected) in [
        ("Header('Zz')", "1:1-13 header \"Zz\" not found"),
        ("Body('zz')", "1:1-11 path \"zz\" not found in the body"),
        ("Body(5)", "1:1-8 parameter must be a string"),
        ("Body(null)", "1:1-11 parameter must be a string"),
        ("Header({})", "1:1-11 parameter must be a string"),
        ("Now(1)", "1:1-7 parameter must be a string"),
        (
            "Now('%s')",
            "1:1-10 unknown specification %s in the time format",
        ),
        ("error 'boom'", "1:1-13 boom"),
        ("\n  1 / 0", "2:3-8 division by zero"),
        ("{a: 1}.b", "1:1-9 field does not exist: b"),
        ("[1][5]", "1:1-7 index 5 is out of range, the length is 1"),
        (
            "std.extVar('x')",
            "1:1-16 undefined external variable \"x\"",
        ),
        (
            "Body('a', 1, 2)",
            "1:1-16 too many arguments, there are 2 parameters",
        ),
        ("local f(x) = f(x) + 1; f(1)", "more than 500 calls deep"),
        ("local a = a; a", "a value that depends on itself"),
        ("function(x) x", "the template's result contains a function"),
        ("1 + {}.x", "field does not exist: x"),
        (
            "std.foldl(function(a, i) [a], std.range(1, 1000), [])",
            "more than 500 calls deep",
        ),
    ] {
        let error = cell(template(source, false), &sample()).unwrap_err();
        assert_eq!(error.kind.status(), 422, "{source}: {error}");
        assert_eq!(error.column, "c0");
        assert!(
            error.message.contains(expected),
            "{source}: {}",
            error.message
        );
    }
}

#[test]
fn unparsed_bodies_fail_only_templates_that_need_values() {
    let text = record("text/plain", "plain");
    assert_eq!(cell(template("BodyStr()", true), &text).unwrap(), "plain");
    let error = cell(template("Body()", false), &text).unwrap_err();
    assert_eq!(error.kind.status(), 415);
    assert!(
        error
            .message
            .contains("unsupported content type \"text/plain\"")
    );
    let error = cell(template("Body('a', 1)", false), &json("{")).unwrap_err();
    assert_eq!(error.kind.status(), 400);
    // Unlike in the reference service, any JSON is a body.
    assert_eq!(
        cell(template("Body()[1]", false), &json("[1,2]")).unwrap(),
        "2"
    );
    assert_eq!(cell(template("Body()", false), &json("5")).unwrap(), "5");
    let form = record("application/x-www-form-urlencoded", "a[b]=1&c[]=2");
    assert_eq!(
        cell(template("Body()", false), &form).unwrap(),
        r#"{"a":{"b":"1"},"c":["2"]}"#
    );
    let bytes = record("", b"x\xffy".to_vec());
    assert_eq!(
        cell(template("BodyStr()", true), &bytes).unwrap(),
        "x\u{FFFD}y"
    );
    assert!(
        cell(template("Body()", true), &json("[1e999]"))
            .unwrap_err()
            .message
            .contains("too large")
    );
}

#[test]
fn check_errors_have_their_position() {
    for (source, expected) in [
        ("Invalid", "1:1-8 Unknown variable: Invalid"),
        ("1 +", "1:4 Unexpected end of template"),
        ("", "1:1 Unexpected end of template"),
        ("{\n  a: žluť,\n}", "2:6-7 Unexpected character"),
        ("'abc", "1:1-5 String without end"),
        ("import 'x'", "1:1-7 import is disabled"),
        ("{a: importstr 'x'}", "1:5-14 importstr is disabled"),
        ("\nimportbin 'x'", "2:1-10 importbin is disabled"),
        ("self.x", "1:1-5 self outside of an object"),
        (
            "local a = 1, a = 2; a",
            "1:14-15 Variable a is defined twice",
        ),
        ("1) + (2", "1:2-3 Unexpected token RightParen"),
        ("/*", "Comment without end"),
        ("body()", "1:1-5 Unknown variable: body"),
    ] {
        let found = check(source);
        assert!(found.contains(expected), "{source:?}: {found}");
    }
    assert_eq!(check("'import' + Body('import')"), "");
    for fine in [
        "Body('$.a[*]', 1) + Body('a[\"b\"]') + Body() + Body('a' + '[*]')",
        "local Body(x) = x; Body('a[*]')",
        "function(Body) Body('a[*]')",
        "{ Body(x): x }.Body('a[*]')",
    ] {
        let found = check(fine);
        assert!(!found.contains("path"), "{fine}: {found}");
    }
    let found = check("1 + Body('a[*]', 2)");
    assert!(
        found.starts_with("1:10-16 path \"a[*]\" is invalid: character 3: "),
        "{found}"
    );
    assert_eq!(check("std.native('x')"), "");
}

#[test]
fn a_mapping_reports_every_invalid_template() {
    let kinds = [
        template("Invalid", false),
        template("1", false),
        template("(", true),
    ];
    let errors = CompiledMapping::compile(&mapping(kinds), &RowLimits::default()).unwrap_err();
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "Column \"c0\" template is invalid: 1:1-8 Unknown variable: Invalid.",
            "Column \"c2\" template is invalid: 1:2 Unexpected end of template.",
        ]
    );
}

#[test]
fn the_deepest_nesting_that_fits_can_be_checked() {
    // Each source nests as deep as 4096 characters allow. None may overflow the stack, valid or
    // not.
    for unit in [
        "(",
        "[",
        "{a:",
        "-",
        "!",
        "1+",
        "x[",
        "f(",
        "a.b",
        "if 1 then ",
        "local a=",
        "local a=1;",
        "function(x)",
        "error ",
        "assert 1;",
        "{[",
        "[x for x in ",
        "{['a']:",
        "a{",
        "1,",
        ".a",
        "[0]",
        "()",
        "std.x(",
        "{a+:",
        "{assert ",
        "$.a[",
        "'a'in ",
        "{local a=",
        "[1,",
    ] {
        for head in ["", "a", "{a:1}"] {
            let count = (4096 - head.len()) / unit.len();
            drop(check(&format!("{head}{}", unit.repeat(count))));
        }
    }
    for (open, inner, close) in [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{a:", "1", "}"),
        ("[[1][", "0", "]]"),
        ("(function(x)", "x", ")"),
        ("(local a=1;", "a", ")"),
        ("{a:1}+{b:", "1", "}"),
        ("if true then ", "1", ""),
        ("-", "1", ""),
        ("", "{a:1}", ".a"),
        ("", "[[1]]", "[0]"),
        ("", "Body", "()"),
        ("", "1", "+1"),
    ] {
        let count = (4096 - inner.len()) / (open.len() + close.len());
        let source = format!("{}{inner}{}", open.repeat(count), close.repeat(count));
        assert_eq!(check(&source), "", "{open}{inner}{close}");
    }
    assert_eq!(
        check(&"1".repeat(4097)),
        "Template is longer than 4096 characters"
    );
    assert_eq!(check(&format!("'{}'", "é".repeat(4094))), "");
}
