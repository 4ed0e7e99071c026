//! Reading lists, truths and models; writing pairs and clusters.

use anyhow::{Context, Result, bail};
use patient_matching::{Matching, Model, Schema, Table, Truth};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

pub fn open(path: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::with_capacity(
        1 << 20,
        File::open(path).with_context(|| format!("cannot open {}", path.display()))?,
    ))
}

pub fn create(path: &Path) -> Result<BufWriter<File>> {
    Ok(BufWriter::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?))
}

pub fn schema(path: &Path) -> Result<Schema> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Schema::from_toml(&text).with_context(|| path.display().to_string())
}

pub fn model(path: &Path, schema: &Schema) -> Result<Model> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let model = Model::from_json(&text).with_context(|| path.display().to_string())?;
    if model.layout != schema.layout() {
        bail!(
            "{} was trained on other places or identifiers than the schema names; train it anew",
            path.display()
        );
    }
    Ok(model)
}

/// Reads one or two lists into a table.
pub fn table(schema: &Schema, paths: &[&Path]) -> Result<Table> {
    let mut table = Table::new(schema.layout());
    for (source, path) in paths.iter().enumerate() {
        schema
            .read_into(open(path)?, &mut table, source as u8)
            .with_context(|| path.display().to_string())?;
    }
    Ok(table)
}

pub fn truth(path: &Path) -> Result<Truth> {
    let mut reader = csv::Reader::from_reader(open(path)?);
    let header = reader.headers()?.clone();
    let mut rows = Vec::new();
    for row in reader.records() {
        let row = row.with_context(|| format!("{} is no CSV file", path.display()))?;
        rows.push((row.get(0).unwrap_or_default().to_owned(), row.get(1).unwrap_or_default().to_owned()));
    }
    match header.iter().collect::<Vec<_>>().as_slice() {
        ["id_a", "id_b", ..] => Ok(Truth::from_pairs(rows)),
        ["rec_id", "entity_id", ..] => Ok(Truth::from_entities(rows)),
        _ => bail!("{} must have the columns id_a,id_b or rec_id,entity_id", path.display()),
    }
}

/// Writes pairs, sorted by their ids.
pub fn pairs(matching: &Matching, path: &Path) -> Result<()> {
    let table = &matching.table;
    let mut rows: Vec<_> = matching
        .pairs
        .iter()
        .map(|p| {
            let (a, b) = (table.id(p.a), table.id(p.b));
            let swap = matching.clusters.is_empty() || a <= b;
            let (a, b) = if swap { (a, b) } else { (b, a) };
            (a, b, p)
        })
        .collect();
    rows.sort_by(|x, y| (x.0, x.1).cmp(&(y.0, y.1)));
    let mut out = csv::Writer::from_writer(create(path)?);
    out.write_record(["id_a", "id_b", "probability", "weight", "outcome"])?;
    for (a, b, p) in rows {
        out.write_record([a, b, &p.probability.to_string(), &p.weight.to_string(), p.outcome.word()])?;
    }
    out.flush()?;
    Ok(())
}

/// Writes the cluster of every record, named by the smallest record id in it, sorted by record id.
pub fn clusters(matching: &Matching, path: &Path) -> Result<()> {
    let table = &matching.table;
    let mut names: Vec<&str> = (0..table.len() as u32).map(|r| table.id(r)).collect();
    for (row, &first) in matching.clusters.iter().enumerate() {
        let id = table.id(row as u32);
        if let Some(name) = names.get_mut(first as usize)
            && id < *name
        {
            *name = id;
        }
    }
    let mut rows: Vec<(&str, &str)> = matching
        .clusters
        .iter()
        .enumerate()
        .map(|(row, first)| (table.id(row as u32), names.get(*first as usize).copied().unwrap_or_default()))
        .collect();
    rows.sort_unstable();
    let mut out = create(path)?;
    writeln!(out, "rec_id,cluster_id")?;
    let mut out = csv::Writer::from_writer(out);
    for (id, cluster) in rows {
        out.write_record([id, cluster])?;
    }
    out.flush()?;
    Ok(())
}
