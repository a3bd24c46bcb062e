//! What the documents tell people to type: every line is understood, and the tour of README does what
//! it says.

mod lines;
mod shell;
mod tour;

use std::path::{Path, PathBuf};

/// The folder that holds the whole project.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A block of code in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    /// What it is in, as the document says: `sh`, `console`, `yaml`.
    language: String,
    /// The number of its first line in the document.
    first: usize,
    lines: Vec<String>,
}

/// The blocks of code of a document.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => {
                let language = language.trim().to_owned();
                open = Some(Block { language, first: number + 2, lines: Vec::new() });
            }
            (None, None) => (),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.lines.push(line.to_owned()),
        }
    }
    assert_eq!(open, None, "a block of code has no end");
    blocks
}
