//! `podline import`: what of TKE's manifests Podline does as they say, comes close to, or does nothing about; and the
//! manifests as they are to be applied here. Reads files, asks nobody.

mod adapt;
mod config;
mod documents;
mod ingress;
mod look;
mod service;

use std::io::{self, Read};

use serde::Serialize;

use super::Format;
use super::failure::{Exit, Failure};
use super::human::{Columns, clean};
use super::output::Screen;
use documents::Found;
use look::{Item, Verdict};

/// How to use it.
pub(super) const HELP: &str = "\
Examples:
  podline import tke.yaml                        each annotation and field, and what becomes of it
  kubectl get svc -A -o yaml | podline import -
  podline import -o json *.yaml
  podline import --write tke.yaml > podline.yaml  the manifests for Podline; what was changed is told on the standard error

Services, Ingresses and TkeServiceConfigs are looked at, also in lists; other objects are told as not looked at, and written as they are.

  honoured      does as it says
  approximated  comes close: the reason says how
  ignored       does nothing: the reason says why
  written       Podline writes it itself
  refused       its value cannot be read, so it would do nothing";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Manifests (YAML or JSON, many documents in one); - is the standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Print the manifests as they are to be applied, instead.
    #[arg(long)]
    write: bool,
}

pub(super) fn run(args: &Args, screen: &mut Screen) -> Result<Exit, Failure> {
    if args.write && screen.format() != Format::Table {
        let problem = "--write prints manifests: leave --output out";
        return Err(Failure::Usage(problem.to_owned()));
    }
    let mut all = Vec::new();
    for file in &args.files {
        let name = if file == "-" { "stdin" } else { file };
        let text = read(file).map_err(|source| Failure::Read {
            file: name.to_owned(),
            source,
        })?;
        let found = documents::read(&text);
        let found = found.map_err(|problem| Failure::Usage(format!("{name}: {problem}")))?;
        all.extend(found.into_iter().map(|found| (name.to_owned(), found)));
    }
    if args.write {
        return write(all, screen);
    }
    let mut told = Vec::new();
    for (file, found) in &all {
        let items = look::look(&found.value);
        let place = |problem| Failure::Usage(format!("{file}: {}: {problem}", found.place));
        for item in items.map_err(place)? {
            told.push(Told::new(file, found, item));
        }
    }
    screen.answer(&told, || render(&told))?;
    Ok(Exit::Done)
}

fn read(file: &str) -> io::Result<String> {
    let mut text = String::new();
    match file {
        "-" => io::stdin().lock().read_to_string(&mut text)?,
        path => std::fs::File::open(path)?.read_to_string(&mut text)?,
    };
    Ok(text)
}

fn write(all: Vec<(String, Found)>, screen: &mut Screen) -> Result<Exit, Failure> {
    for (n, (file, mut found)) in all.into_iter().enumerate() {
        let object = look::name(&found.value);
        let changes = adapt::adapt(&mut found.value);
        let place = |problem| Failure::Usage(format!("{file}: {}: {problem}", found.place));
        for change in changes.map_err(place)? {
            eprintln!("{}: {}", clean(&object), clean(&change));
        }
        let text = serde_saphyr::to_string(&found.value)
            .map_err(|error| Failure::Output(io::Error::other(error.to_string())))?;
        let between = if n == 0 { "" } else { "---\n" };
        screen.write(format!("{between}{text}").as_bytes())?;
    }
    Ok(Exit::Done)
}

/// An annotation or field, as it is told.
#[derive(Serialize)]
struct Told {
    file: String,
    place: String,
    object: String,
    #[serde(flatten)]
    item: Item,
}

impl Told {
    fn new(file: &str, found: &Found, item: Item) -> Self {
        Self {
            file: file.to_owned(),
            place: found.place.clone(),
            object: look::name(&found.value),
            item,
        }
    }
}

fn render(told: &[Told]) -> String {
    const HEADER: &[&str] = &["OBJECT", "ANNOTATION OR FIELD", "VERDICT", "WHY"];
    let mut columns = Columns::new("", HEADER);
    for told in told {
        columns.row([
            clean(&told.object),
            clean(&told.item.what),
            told.item.verdict.word().to_owned(),
            clean(&told.item.why),
        ]);
    }
    let of = |verdict: Verdict| {
        let count = told.iter().filter(|told| told.item.verdict == verdict);
        count.count()
    };
    let counted = Verdict::ALL.map(|verdict| (verdict, of(verdict)));
    let counted = counted.iter().filter(|(_, count)| *count > 0);
    let words = counted.map(|(verdict, count)| format!("{count} {}", verdict.word()));
    let words: Vec<_> = words.collect();
    if told.is_empty() {
        return "nothing to tell\n".to_owned();
    }
    let (all, table) = (told.len(), columns.text());
    format!(
        "{table}\n{all} annotations and fields: {}\n",
        words.join(", ")
    )
}

#[cfg(test)]
mod tests;
