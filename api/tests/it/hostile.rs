//! Hostile input: nothing panics, and everything ends.

use std::fs;
use std::path::PathBuf;

use api::manifest;
use proptest::prelude::*;

fn refused(name: &str, bytes: &[u8]) -> String {
    let problems = manifest::read("hostile", bytes).expect_err(name);
    problems[0].to_string()
}

#[test]
fn billion_laughs_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    let told = refused("laughs", text.as_bytes());
    assert!(told.contains("alias"), "{told}");
    is_plain(&told);
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        (0..5_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect(),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!(
            "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {{name: a}}\nspec: {{items: [{}{}]}}\n",
            "[".repeat(62),
            "]".repeat(62)
        ),
    ] {
        is_plain(&refused(&text[..20], text.as_bytes()));
    }
}

/// The parser's own words are for who writes parsers.
fn is_plain(told: &str) {
    for raw in ["budget", "breach", "{ ", "replay"] {
        assert!(!told.contains(raw), "{told}");
    }
}

#[test]
fn large_wide_and_odd_files_are_refused() {
    refused("size", &vec![b'#'; manifest::MANIFEST_BYTES_MAX + 1]);
    refused("utf-8", b"a: \xff\xfe\n");
    refused("utf-16", b"\xff\xfea\x00:\x00 \x00b\x00");
    refused(
        "nul",
        b"apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {name: \"a\\0b\"}\nspec: {}\n",
    );
    refused("raw nul", b"a: \0\n");
    is_plain(&refused("nodes", format!("[{}]", "a,".repeat(2_000_000)).as_bytes()));
    is_plain(&refused("documents", "a: 1\n---\n".repeat(20_000).as_bytes()));
    let many: String = (0..50_000).map(|n| format!("f{n}: {n}\n")).collect();
    let wide = format!(
        "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {{name: a}}\nspec: {{template: {{image: x}}}}\n{many}"
    );
    let problems = manifest::read("wide", wide.as_bytes()).unwrap_err();
    assert!(problems.len() <= api::schema::VIOLATIONS_MAX, "{}", problems.len());
}

#[test]
fn odd_numbers_are_no_counts() {
    for number in [
        "-1",
        "1e400",
        "-1e400",
        ".nan",
        ".inf",
        "99999999999999999999999",
        "1.5",
        "0x1G",
        "4294967296",
        "1_000",
        "0777",
        "'3'",
        "~",
        "[]",
    ] {
        let text = format!(
            "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {{name: a}}\nspec: {{count: {number}, template: {{image: x}}}}\n"
        );
        let read = manifest::read("number", text.as_bytes());
        assert_eq!(read.is_ok(), number == "~", "{number}");
    }
}

#[test]
fn names_that_are_paths_are_refused() {
    for name in ["../../etc/passwd", "a/b", "/", "..", ".", "-rf", "a\\b", "a b", "%2e%2e", "ａ"] {
        let text = format!(
            "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {{name: '{name}'}}\nspec: {{template: {{image: x}}}}\n"
        );
        let told = refused(name, text.as_bytes());
        assert!(told.contains("metadata.name"), "{told}");
    }
}

#[test]
fn a_seed_is_good_and_no_part_of_it_panics() {
    let seeds = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/manifest");
    let mut read = 0;
    for entry in fs::read_dir(seeds).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        read += manifest::read("seed", &bytes).unwrap().len();
        for at in 0..bytes.len() {
            let _head = manifest::read("head", &bytes[..at]);
            let mut broken = bytes.clone();
            broken[at] = b"\0:[{&*!\xff"[at % 8];
            let _broken = manifest::read("broken", &broken);
        }
    }
    assert_eq!(read, 3, "documents in all seeds");
}

/// Pieces that manifests are made of, and some that they are not.
const PIECES: [&str; 40] = [
    "apiVersion: heliox.dev/v1\n",
    "kind: Job\n",
    "kind: Workflow\n",
    "metadata: {name: a}\n",
    "spec:\n",
    "  template:\n",
    "    image: x\n",
    "  jobs:\n",
    "  - name: a\n",
    "    dependsOn: [{job: a}]\n",
    "  count: 3\n",
    "---\n",
    "...\n",
    "&a ",
    "*a ",
    "<<: *a\n",
    "[",
    "]",
    "{",
    "}",
    ", ",
    ": ",
    "- ",
    "\n",
    " ",
    "\t",
    "!!str ",
    "!x ",
    "|\n",
    ">-\n",
    "'",
    "\"",
    "\\",
    "\0",
    "#",
    "%YAML 1.2\n",
    "? ",
    "$(params.a)",
    "é",
    "\u{feff}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _read = manifest::read("bytes", &bytes);
    }

    #[test]
    fn no_pieces_panic(picks in proptest::collection::vec(0..PIECES.len(), 0..40)) {
        let text: String = picks.into_iter().map(|pick| PIECES[pick]).collect();
        let _read = manifest::read("pieces", text.as_bytes());
    }
}
