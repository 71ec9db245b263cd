//! JSONPath by RFC 9535, clause by clause: selections and invalid queries.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use bytes::Bytes;
use forebay_record::json::JsonDocument;
use forebay_record::path::{CompiledPath, OwnedSelection, list, normalized, steps_max};

/// The selection of a path as a JSON array.
fn selected(path: &str, document: &str) -> String {
    let compiled = CompiledPath::compile(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let document = JsonDocument::parse(Bytes::copy_from_slice(document.as_bytes())).unwrap();
    let nodes = match compiled.select(&document).unwrap() {
        OwnedSelection::Nothing => Vec::new(),
        OwnedSelection::One(node) => vec![node],
        OwnedSelection::Many(nodes) => nodes,
    };
    let mut out = Vec::new();
    list(&document, &nodes, |part| out.extend_from_slice(part));
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn all(document: &str, cases: &[(&str, &str)]) {
    for (path, wanted) in cases {
        assert_eq!(selected(path, document), *wanted, "{path} of {document}");
    }
}

#[track_caller]
fn rejected(cases: &[(&str, usize, &str)]) {
    for (path, at, expected) in cases {
        let error = CompiledPath::compile(path).expect_err(path);
        assert_eq!(error.at, *at, "{path}: {error}");
        assert!(error.message.contains(expected), "{path}: {error}");
    }
}

#[test]
fn names_wildcards_and_indices() {
    let document = r#"{"a":{"b":1,"é_1":2,"x y":3,"$":4,"":5},"l":[10,[20,21],30],"0":"zero"}"#;
    all(
        document,
        &[
            ("$", &format!("[{document}]")),
            ("$.a.b", "[1]"),
            ("$['a']['b']", "[1]"),
            ("$[\"a\"].é_1", "[2]"),
            ("$.a['x y']", "[3]"),
            ("$.a['$']", "[4]"),
            ("$.a['']", "[5]"),
            ("$.none", "[]"),
            ("$.l.b", "[]"),
            ("$.a.*", "[1,2,3,4,5]"),
            ("$.l[*]", "[10,[20,21],30]"),
            ("$.l[*][*]", "[20,21]"),
            ("$.l[0]", "[10]"),
            ("$.l[-1]", "[30]"),
            ("$.l[-3]", "[10]"),
            ("$.l[-4]", "[]"),
            ("$.l[3]", "[]"),
            ("$.l[9007199254740991]", "[]"),
            ("$.l[-9007199254740991]", "[]"),
            // An index selects nothing in an object, a name nothing in an array.
            ("$[0]", "[]"),
            ("$['0']", "[\"zero\"]"),
            ("$.l['0']", "[]"),
            ("$.l[0,2,0]", "[10,30,10]"),
            ("$['a','l']['b',0]", "[1,10]"),
            ("$.l[1,'a',*]", "[[20,21],10,[20,21],30]"),
        ],
    );
}

#[test]
fn slices() {
    let document = "[0,1,2,3,4,5,6]";
    all(
        document,
        &[
            ("$[1:3]", "[1,2]"),
            ("$[5:]", "[5,6]"),
            ("$[1:5:2]", "[1,3]"),
            ("$[5:1:-2]", "[5,3]"),
            ("$[::-1]", "[6,5,4,3,2,1,0]"),
            ("$[:]", "[0,1,2,3,4,5,6]"),
            ("$[-2:]", "[5,6]"),
            ("$[:-5]", "[0,1]"),
            ("$[-100:2]", "[0,1]"),
            ("$[5:100]", "[5,6]"),
            ("$[100:5:-1]", "[6]"),
            ("$[2:-100:-1]", "[2,1,0]"),
            ("$[3:3]", "[]"),
            ("$[3:1]", "[]"),
            ("$[::0]", "[]"),
            ("$[ 1 : 5 : 2 ]", "[1,3]"),
            ("$[1::]", "[1,2,3,4,5,6]"),
            ("$[:2:]", "[0,1]"),
            ("$[0:9007199254740991:9007199254740991]", "[0]"),
            ("$[6:-9007199254740991:-9007199254740991]", "[6]"),
            ("$[1:2,-1]", "[1,6]"),
        ],
    );
    all("{\"a\":1}", &[("$[0:1]", "[]")]);
    all("[]", &[("$[::-1]", "[]"), ("$[-1:]", "[]")]);
}

#[test]
fn descendants() {
    let document = r#"{"o":{"j":1,"k":2},"a":[5,3,[{"j":4},{"k":6}]]}"#;
    all(
        document,
        &[
            ("$..j", "[1,4]"),
            ("$..[0]", "[5,{\"j\":4}]"),
            ("$..['j','k']", "[1,2,4,6]"),
            (
                "$..*",
                r#"[{"j":1,"k":2},[5,3,[{"j":4},{"k":6}]],1,2,5,3,[{"j":4},{"k":6}],{"j":4},{"k":6},4,6]"#,
            ),
            ("$..o", r#"[{"j":1,"k":2}]"#),
            ("$.o..[*]", "[1,2]"),
            ("$.a..[0, 1]", "[5,3,{\"j\":4},{\"k\":6}]"),
            ("$..[?@.j]", r#"[{"j":1,"k":2},{"j":4}]"#),
            ("$..a..j", "[4]"),
            ("$..none", "[]"),
        ],
    );
    all(
        "{\"a\":{\"a\":{\"a\":1}}}",
        &[("$..a..a", r#"[{"a":1},1,1]"#)],
    );
}

#[test]
fn filters_compare() {
    let document = r#"{"obj":{"x":"y"},"arr":[2,3],"n":1,"s":"a","z":null,"t":true,"items":[0]}"#;
    let always = |test: &str, wanted: bool| {
        let path = format!("$.items[?{test}]");
        let wanted = if wanted { "[0]" } else { "[]" };
        assert_eq!(selected(&path, document), wanted, "{path}");
    };
    for (test, wanted) in [
        ("$.absent1 == $.absent2", true),
        ("$.absent1 <= $.absent2", true),
        ("$.absent == 'g'", false),
        ("$.absent1 != $.absent2", false),
        ("$.absent != 'g'", true),
        ("$.absent < 1", false),
        ("1 <= 2", true),
        ("1 > 2", false),
        ("13 == '13'", false),
        ("'a' <= 'b'", true),
        ("'a' > 'b'", false),
        ("'a' < 'ab'", true),
        ("'Z' < 'a'", true),
        // Order of characters, not of UTF-16: U+FFFD is less than U+1F600.
        ("'\u{fffd}' < '\u{1f600}'", true),
        ("$.obj == $.arr", false),
        ("$.obj != $.arr", true),
        ("$.obj == $.obj", true),
        ("$.obj != $.obj", false),
        ("$.arr == $.arr", true),
        ("$.obj == 17", false),
        ("$.obj != 17", true),
        ("$.obj <= $.arr", false),
        ("$.obj < $.arr", false),
        ("$.obj <= $.obj", true),
        ("$.arr <= $.arr", true),
        ("1 <= $.arr", false),
        ("1 >= $.arr", false),
        ("true <= true", true),
        ("true > true", false),
        ("true < true", false),
        ("null <= null", true),
        ("$.z == null", true),
        ("$.absent == null", false),
        ("$.t == true", true),
        ("false == $.t", false),
        ("1 == 1.0", true),
        ("-0 == 0", true),
        ("1e2 == 100", true),
        ("1.10E+1 == 11", true),
        ("0.1 < 0.11", true),
        ("-1 < -0.5", true),
        // Numbers are compared by all their digits.
        ("9007199254740993 == 9007199254740992", false),
        ("12345678901234567890123 < 12345678901234567890124", true),
        ("1e400 > 1e399", true),
        ("\"a\" == 'a'", true),
        ("'\\u0061' == $.s", true),
        ("@ == 0", true),
    ] {
        always(test, wanted);
    }
}

#[test]
fn filters_combine() {
    let document = r#"{"a":[3,5,1,2,4,6,{"b":"j"},{"b":"k"},{"b":{}},{"b":"kilo"}],"o":{"p":1,"q":2,"r":3,"s":5,"t":{"u":6}},"e":"f"}"#;
    all(
        document,
        &[
            ("$.a[?@.b == 'kilo']", r#"[{"b":"kilo"}]"#),
            ("$.a[?(@.b == 'kilo')]", r#"[{"b":"kilo"}]"#),
            ("$.a[?@>3.5]", "[5,4,6]"),
            (
                "$.a[?@.b]",
                r#"[{"b":"j"},{"b":"k"},{"b":{}},{"b":"kilo"}]"#,
            ),
            (
                "$[?@.*]",
                r#"[[3,5,1,2,4,6,{"b":"j"},{"b":"k"},{"b":{}},{"b":"kilo"}],{"p":1,"q":2,"r":3,"s":5,"t":{"u":6}}]"#,
            ),
            (
                "$[?@[?@.b]]",
                r#"[[3,5,1,2,4,6,{"b":"j"},{"b":"k"},{"b":{}},{"b":"kilo"}]]"#,
            ),
            ("$.o[?@<3, ?@<3]", "[1,2,1,2]"),
            ("$.a[?@<2 || @.b == \"k\"]", r#"[1,{"b":"k"}]"#),
            ("$.o[?@>1 && @<4]", "[2,3]"),
            ("$.o[?@.u || @.x]", r#"[{"u":6}]"#),
            ("$.a[?@.b == $.x]", "[3,5,1,2,4,6]"),
            (
                "$.a[?@ == @]",
                r#"[3,5,1,2,4,6,{"b":"j"},{"b":"k"},{"b":{}},{"b":"kilo"}]"#,
            ),
            ("$.a[?!@.b]", "[3,5,1,2,4,6]"),
            ("$.a[?!(@<4)&&!@.b]", "[5,4,6]"),
            // && binds tighter than ||.
            ("$.a[?@==1||@==2&&@==3]", "[1]"),
            ("$.a[?(@==1||@==2)&&@==2]", "[2]"),
            ("$.a[?@==1 ||@==2\n||\t@==4]", "[1,2,4]"),
            ("$.a[?$.e=='f' && @<2]", "[1]"),
            ("$[?@ == 'f']", "[\"f\"]"),
            ("$.a[?@['b']=='j']", r#"[{"b":"j"}]"#),
            ("$.a[?$['a'][0] == @]", "[3]"),
            (
                "$.a[?@..b]",
                r#"[{"b":"j"},{"b":"k"},{"b":{}},{"b":"kilo"}]"#,
            ),
            (
                "$[?@..b]",
                r#"[[3,5,1,2,4,6,{"b":"j"},{"b":"k"},{"b":{}},{"b":"kilo"}]]"#,
            ),
        ],
    );
}

#[test]
fn functions() {
    let document = r#"[{"a":"ab","l":[1,2,3]},{"a":"é😀","l":[]},{"a":{"x":1},"l":[1]},{"a":7},{"a":"b\u0041"}]"#;
    let first = r#"{"a":"ab","l":[1,2,3]}"#;
    let second = r#"{"a":"é😀","l":[]}"#;
    let third = r#"{"a":{"x":1},"l":[1]}"#;
    let fifth = r#"{"a":"b\u0041"}"#;
    let list = |items: &[&str]| format!("[{}]", items.join(","));
    for (path, wanted) in [
        ("$[?length(@.a) == 2]", list(&[first, second, fifth])),
        ("$[?length(@.l) == 0]", list(&[second])),
        ("$[?length(@.a) == 1]", list(&[third])),
        ("$[?length(@.none) == length(@.none)]", document.to_owned()),
        (
            "$[?length('abc') > length(@.a)]",
            list(&[first, second, third, fifth]),
        ),
        ("$[?count(@.l[*]) > 1]", list(&[first])),
        ("$[?count(@.*) == 1]", list(&[r#"{"a":7}"#, fifth])),
        ("$[?count(@..*) == 5]", list(&[first])),
        ("$[?value(@.l[*]) == 1]", list(&[third])),
        ("$[?value(@..x) == 1]", list(&[third])),
        ("$[?match(@.a, 'a.')]", list(&[first])),
        ("$[?match(@.a, 'a')]", "[]".to_owned()),
        ("$[?search(@.a, 'b')]", list(&[first, fifth])),
        (
            "$[?!search(@.a, 'b')]",
            list(&[second, third, r#"{"a":7}"#]),
        ),
        ("$[?search(@.a, 'bA')]", list(&[fifth])),
        ("$[?match(@.a, '[a-b]{1,2}')]", list(&[first])),
        ("$[?match(@.a, '.\\\\P{L}')]", list(&[second])),
        ("$[?match(@.a, '(a|é)(b|.)')]", list(&[first, second])),
        ("$[?match(@.a, $[0].a)]", list(&[first])),
        ("$[?length(value(@.l[*])) == 1]", "[]".to_owned()),
    ] {
        assert_eq!(selected(path, document), wanted, "{path}");
    }
    // An invalid pattern from the document matches nothing.
    assert_eq!(
        selected("$.v[?search(@,$.p)]", r#"{"p":"(","v":["("]}"#),
        "[]"
    );
    assert_eq!(
        selected("$.v[?match(@,'.')]", r#"{"v":["\n","\r","\u2028","x"]}"#),
        r#"["\u2028","x"]"#
    );
}

#[test]
fn literals_have_the_escapes_of_the_rfc() {
    let document = r#"{"\u263a":1,"😀":2,"\"'":3,"\b\f\n\r\t/\\":4,"a\u0000":5}"#;
    all(
        document,
        &[
            ("$['\\u263A']", "[1]"),
            ("$['\\ud83d\\ude00']", "[2]"),
            ("$[\"\\uD83D\\uDE00\"]", "[2]"),
            ("$['\"\\'']", "[3]"),
            ("$[\"\\\"'\"]", "[3]"),
            ("$['\\b\\f\\n\\r\\t\\/\\\\']", "[4]"),
            ("$['a\\u0000']", "[5]"),
            ("$.\u{263a}", "[1]"),
        ],
    );
}

#[test]
fn blanks_are_allowed_where_the_rfc_allows_them() {
    let document = r#"{"a":[{"b":1}]}"#;
    for path in [
        "$ .a [0] .b",
        "$\n.a\t[ 0 ]\r['b']",
        "$.a[?@ ['b'] == 1]",
        "$.a[?\t(\n@.b\r== 1 ) ]",
        "$.a[? ! ( @.b == 2 ) ]",
        "$.a[?count( @.* ) == 1]",
        "$.a[?match( 'x' , 'x' )]",
    ] {
        let found = selected(path, document);
        assert!(found == "[1]" || found == r#"[{"b":1}]"#, "{path}: {found}");
    }
    assert!(
        CompiledPath::compile("$.a[?@. b]").is_err(),
        "a blank after a dot"
    );
}

#[test]
fn invalid_queries_are_rejected_with_their_position() {
    rejected(&[
        ("$a", 2, "[\"$a\"]"),
        ("$ref", 2, "a key that begins with $ is written [\"$ref\"]"),
        ("$schema.x", 2, "[\"$schema\"]"),
        ("$.", 3, "found the end"),
        ("$..", 4, "found the end"),
        ("$...a", 4, "found '.'"),
        ("$.a.", 5, "found the end"),
        ("$.a ", 4, ". or [ or the end"),
        ("$ ", 2, ". or [ or the end"),
        ("$. a", 3, "found ' '"),
        ("$.1a", 3, "found '1'"),
        ("$.a-b", 4, "in brackets and quotes"),
        ("$.@odata", 3, "in brackets and quotes"),
        ("$.'a'", 3, "a name"),
        ("$[", 3, "a selector"),
        ("$[]", 3, "a selector"),
        ("$[0", 4, "expected , or ]"),
        ("$[0]]", 5, ". or [ or the end"),
        ("$[0,]", 5, "a selector"),
        ("$[a]", 3, "a key in quotes"),
        ("$['a]", 3, "not closed"),
        ("$[\"a']", 3, "not closed"),
        ("$[01]", 3, "leading zeros"),
        ("$[-0]", 3, "-0 is no index"),
        ("$[-]", 4, "a digit behind -"),
        ("$[+1]", 3, "a selector"),
        ("$[1.0]", 4, "expected , or ]"),
        ("$[9007199254740992]", 3, "9007199254740991"),
        ("$[-9007199254740992]", 3, "9007199254740991"),
        ("$[0:9007199254740992]", 5, "9007199254740991"),
        ("$[0:1:2:3]", 8, "expected , or ]"),
        ("$['\\x']", 5, "behind a backslash"),
        ("$['\\\"']", 5, "behind a backslash"),
        ("$['\\ud83d']", 4, "second half"),
        ("$['\\ud83d\\u0041']", 4, "second half"),
        ("$['\\ude00']", 4, "without its first"),
        ("$['\\u12']", 4, "four hexadecimal"),
        ("$['a\nb']", 5, "control character"),
        ("$['é\nb']", 5, "control character"),
    ]);
}

#[test]
fn invalid_filters_are_rejected_with_their_position() {
    rejected(&[
        ("$[?]", 4, "a value"),
        ("$[?(@.a]", 8, ") or && or ||"),
        ("$[?@.a==]", 9, "a value"),
        ("$[?@.a=1]", 7, "expected , or ]"),
        ("$[?@.a===1]", 9, "a value"),
        ("$[?@.a==1 && ]", 14, "a value"),
        ("$[?1]", 4, "compare it"),
        ("$[?'a']", 4, "compare it"),
        ("$[?true]", 4, "compare it"),
        ("$[?!@.a==1]", 5, "parentheses"),
        ("$[?(@.a)==1]", 9, "expected , or ]"),
        ("$[?@.*==1]", 4, "many values"),
        ("$[?@..a==1]", 4, "many values"),
        ("$[?@[0:1]==1]", 4, "many values"),
        ("$[?@.a==abc]", 9, "a text is written in quotes"),
        ("$[?@.a==True]", 9, "a value"),
        ("$[?@.a==01]", 9, "leading zeros"),
        ("$[?@.a==1.]", 11, "a digit"),
        ("$[?@.a==.1]", 9, "a value"),
        ("$[?@.a==1e]", 11, "a digit"),
        ("$[?@.a==[1]]", 9, "a value"),
        ("$[?@.a=={}]", 9, "a value"),
        ("$[?length(@.a)]", 4, "compare it"),
        ("$[?length(@.*)==1]", 11, "many values"),
        ("$[?length()==1]", 4, "takes 1 values, given are 0"),
        ("$[?length(@.a,@.b)==1]", 4, "given are 2"),
        ("$[?count(1)==1]", 10, "takes a query"),
        ("$[?count(@.*)]", 4, "compare it"),
        ("$[?value(1)==1]", 10, "takes a query"),
        ("$[?match(@.a)]", 4, "takes 2"),
        ("$[?match(@.a,'a')==true]", 4, "no value"),
        ("$[?match(@.*,'a')]", 10, "many values"),
        ("$[?match(@.a,'(')]", 14, "I-Regexp"),
        ("$[?match(@.a,'\\\\d')]", 14, "[0-9]"),
        ("$[?match(@.a,'a**')]", 14, "character 3 of the pattern"),
        ("$[?match(@.a,'[]')]", 14, "must not be empty"),
        ("$[?match(@.a,'[b-a]')]", 14, "ends before it begins"),
        ("$[?match(@.a,'a{2,1}')]", 14, "ends before it begins"),
        ("$[?match(@.a,'\\\\p{Xx}')]", 14, "a category"),
        ("$[?match(@.a,'(?i)a')]", 14, "I-Regexp"),
        ("$[?search(@.a,'a{1001}')]", 15, "1000"),
        ("$[?search(@.a,'(a{100}){100}')]", 15, "allowed are 1000"),
        ("$[?nope(@.a)]", 4, "there is no function nope"),
        ("$[?length (@.a)==1]", 4, "neither true"),
        ("$[?@.a in [1]]", 8, "expected , or ]"),
        ("$.a.length()", 11, ". or [ or the end"),
        ("$.a~", 4, ". or [ or the end"),
        ("$.a^", 4, ". or [ or the end"),
    ]);
}

#[test]
fn paths_are_bounded() {
    let deep = |n: usize| format!("$[?{}@.a{}]", "(".repeat(n), ")".repeat(n));
    assert!(CompiledPath::compile(&deep(31)).is_ok());
    rejected(&[
        (&deep(32), 35, "at most 32 deep"),
        (&deep(2000), 35, "at most 32 deep"),
    ]);
    let filters = |n: usize| format!("${}{}", "[?@".repeat(n), "]".repeat(n));
    assert!(CompiledPath::compile(&filters(32)).is_ok());
    assert!(CompiledPath::compile(&filters(33)).is_err());
    let calls = |n: usize| format!("$[?{}@{}==1]", "length(".repeat(n), ")".repeat(n));
    assert!(CompiledPath::compile(&calls(31)).is_ok());
    assert!(CompiledPath::compile(&calls(1000)).is_err());
    let long = |n: usize| format!("$.{}", "a".repeat(n - 2));
    assert!(CompiledPath::compile(&long(4096)).is_ok());
    rejected(&[(&long(4097), 4097, "at most 4096 characters")]);
    rejected(&[(&"é".repeat(4097), 4097, "at most 4096 characters")]);
}

#[test]
fn every_query_has_bounded_steps() {
    let wide = format!("[{}]", vec!["{\"a\":[1,2,\"x\"]}"; 2000].join(","));
    let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
    let text = format!("[\"{}\"]", "a".repeat(100_000));
    for document in [&wide, &deep, &text] {
        let document = JsonDocument::parse(Bytes::copy_from_slice(document.as_bytes())).unwrap();
        let max = steps_max(&document);
        for path in [
            "$..*..*..*..*",
            "$..[*,*,*,*,*,*]..[*,*,*,*]",
            "$..[?@..[?@..[?@..[?@..*]]]]",
            "$..[?count($..*) > 3]",
            "$[?count($..[?count($..*)>1])>1]",
            "$..[?$ == $]",
            "$..[?@ == $]",
            "$..[?count($..[::-1]) == 0]",
            "$..[?search(@, '(a?){900}b')]",
            "$..[?match(value($..[0]), '(a*)*b')]",
            "$..[?search(@, @)]",
        ] {
            let path = CompiledPath::compile(path).unwrap();
            if let Err(error) = path.select(&document) {
                assert_eq!(error.max, max);
                assert!(error.to_string().contains("steps"), "{error}");
            }
        }
        // A query that reads each value a few times is within the limit.
        for path in [
            "$..*",
            "$..a",
            "$..[?@.a]",
            "$..[?@ == 1 || @ == 'x']",
            "$[*].a[*]",
        ] {
            let path = CompiledPath::compile(path).unwrap();
            assert!(path.select(&document).is_ok());
        }
    }
}

#[test]
fn each_comparison_of_a_long_number_costs_steps() {
    let long = "7".repeat(100_000);
    let document = format!(
        r#"{{"long":{long},"all":[{long},{}]}}"#,
        vec!["1"; 20_000].join(",")
    );
    let document = JsonDocument::parse(Bytes::from(document.into_bytes())).unwrap();
    for comparison in ["<", "<=", "==", "!=", ">", ">="] {
        for path in [
            format!("$.all[?@ {comparison} $.long]"),
            format!("$.all[?$.long {comparison} @]"),
            format!("$.all[?$.all {comparison} $.all]"),
        ] {
            let selected = CompiledPath::compile(&path).unwrap().select(&document);
            assert!(
                selected.is_err() || path.contains("$.all ") && comparison.len() == 1,
                "{path}"
            );
        }
    }
}

#[test]
fn values_are_returned_as_sent() {
    let document = r#"{"l":[ 1.50, 1E400, 12345678901234567890123 , "\u00e9\/", {"k" : 1, "k": 2, "z":[ ]} ]}"#;
    assert_eq!(
        selected("$.l[*]", document),
        r#"[1.50,1E400,12345678901234567890123,"\u00e9\/",{"k":1,"k":2,"z":[]}]"#
    );
    // A name selects the first of duplicate keys, other selectors select all.
    assert_eq!(selected("$.l[-1].k", document), "[1]");
    assert_eq!(selected("$.l[-1]['k','k']", document), "[1,1]");
    assert_eq!(selected("$.l[4].*", document), "[1,2,[]]");
    // Objects compare by the first value of each key, in any order.
    for document in [
        r#"[{"a":{"x":1,"x":2},"b":{"x":1}}]"#,
        r#"[{"a":{"x":1,"y":[1.0]},"b":{"y":[1],"x":1e0}}]"#,
    ] {
        assert_eq!(selected("$[?@.a == @.b]", document), document);
        assert_eq!(selected("$[?@.a != @.b]", document), "[]");
    }
    assert_eq!(
        selected("$[?@.a == @.b]", r#"[{"a":{"x":2},"b":{"x":1,"x":2}}]"#),
        "[]"
    );
}

#[test]
fn normalized_paths_are_those_of_the_rfc() {
    let text = r#"{"a":{"k":[null,{"\u000b\b\n'\"\\é":1}]}}"#;
    let document = JsonDocument::parse(Bytes::from_static(text.as_bytes())).unwrap();
    let OwnedSelection::Many(nodes) = CompiledPath::compile("$..*")
        .unwrap()
        .select(&document)
        .unwrap()
    else {
        panic!("nothing");
    };
    let paths: Vec<_> = nodes.iter().map(|n| normalized(&document, *n)).collect();
    assert_eq!(
        paths,
        [
            "$['a']",
            "$['a']['k']",
            "$['a']['k'][0]",
            "$['a']['k'][1]",
            r#"$['a']['k'][1]['\u000b\b\n\'"\\é']"#,
        ]
    );
    assert_eq!(normalized(&document, document.root()), "$");
}
