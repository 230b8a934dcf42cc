//! stub
use anyhow::Result;
use super::Wanted;
use super::super::report::document::Row;
pub fn rows(_: &Wanted) -> Result<Vec<Row>> { Ok(Vec::new()) }
