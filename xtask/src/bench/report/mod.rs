//! What the matrix has found: one document, and the forms in which it is shown.

pub mod add;
pub mod chart;
pub mod compare;
pub mod document;
pub mod figures;
pub mod goals;
pub mod html;
pub mod style;
pub mod tables;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use self::document::Document;
use crate::sh;

/// The folder of all that is written.
const FOLDER: &str = "bench/report";
/// The document in it.
const JSON: &str = "report.json";

/// Where the last document is.
pub fn last() -> Result<PathBuf> {
    sh::target(&format!("{FOLDER}/{JSON}"))
}

/// Reads a document.
///
/// # Errors
/// If it is none.
pub fn read(from: &Path) -> Result<Document> {
    let text = std::fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no report", from.display()))
}

/// Prints the tables and writes all files.
pub fn show(document: &Document) -> Result<()> {
    print!("{}", tables::text(document));
    let file = |name: &str| sh::target(&format!("{FOLDER}/{name}"));
    std::fs::write(file(JSON)?, document.json()?)?;
    std::fs::write(file("report.csv")?, tables::csv(document))?;
    let figures = figures::all(document);
    // Those of another document are not this one's.
    for old in std::fs::read_dir(file("")?)?.filter_map(|entry| Some(entry.ok()?.path())) {
        if old.extension().is_some_and(|end| end == "svg") {
            std::fs::remove_file(old)?;
        }
    }
    for figure in &figures {
        std::fs::write(file(&format!("{}.svg", figure.name))?, &figure.svg)?;
    }
    let page = file("index.html")?;
    std::fs::write(&page, html::page(document, &figures))?;
    eprintln!("xtask: {} figures and the page {}", figures.len(), page.display());
    Ok(())
}
