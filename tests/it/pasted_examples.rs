//! The Rust examples of the README and of the guides, as a reader on a code host sees them.

use std::fs;
use std::path::{Path, PathBuf};

/// rustdoc hides a line that begins with `# `. A code host shows the line, and the example does not
/// compile as pasted. A statement outside of a function does not compile in `main.rs` either.
#[test]
fn every_example_can_be_pasted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guides = fs::read_dir(root.join("docs")).unwrap();
    let mut pages: Vec<PathBuf> = guides.map(|entry| entry.unwrap().path()).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.push(root.join("README.md"));
    let mut examples = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("\n```rust").skip(1) {
            let (example, _) = block.split_once("\n```").unwrap();
            examples += 1;
            let hidden = |line: &&str| *line == "#" || line.starts_with("# ");
            let hidden = example.lines().find(hidden);
            assert_eq!(hidden, None, "{}", page.display());
            assert!(!example.starts_with(",ignore"), "{}", page.display());
            let statement = |line: &&str| line.starts_with("let ") || line.starts_with("for ");
            let statement = example.lines().find(statement);
            assert_eq!(statement, None, "{}, outside of a function", page.display());
        }
    }
    assert!(examples > 30, "{examples} examples");
}

/// The crate `tests/downstream/metrics` compiles the program with the exporter, which this package
/// does not depend on.
#[test]
fn the_program_for_prometheus_is_compiled_elsewhere() {
    let guide = include_str!("../../docs/metrics.md");
    let mut programs = guide.split("\n```rs\n").skip(1);
    let (program, _) = programs.next().unwrap().split_once("```").unwrap();
    let compiled = include_str!("../downstream/metrics/src/guide.rs");
    assert!(compiled.ends_with(program), "{program}");
    assert_eq!(programs.next(), None);
}
