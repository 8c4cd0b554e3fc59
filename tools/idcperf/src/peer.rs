//! The second process: does what it is told, line by line.

use std::io::{BufRead, Write};

use anyhow::{Context, bail};

use crate::{spec::Spec, transport};

/// Joins and serves until its input ends.
pub fn run(spec: &Spec, address: &str) -> anyhow::Result<()> {
    let mut end = transport::join(spec, address)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "joined")?;
    out.flush()?;
    let mut buf = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split(' ');
        let mut next = || words.next().context("a word is missing");
        let what = next()?.to_owned();
        let (size, count): (usize, usize) = (next()?.parse()?, next()?.parse()?);
        buf.resize(size, 0);
        let before = end.events();
        writeln!(out, "go")?;
        out.flush()?;
        match what.as_str() {
            // Takes everything and says so by one message.
            "sink" => {
                end.recv_many(&mut buf, count)?;
                end.send(&[1; 8])?;
            }
            "echo" => {
                for _ in 0..count {
                    end.recv(&mut buf)?;
                    end.send(&buf)?;
                }
            }
            other => bail!("what is `{other}`?"),
        }
        writeln!(out, "{}", end.events().unwrap_or(0) - before.unwrap_or(0))?;
        out.flush()?;
    }
    Ok(())
}
