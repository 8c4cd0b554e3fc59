//! The licences of all dependencies against the list in `deny.toml`, for machines without cargo-deny.

use std::fs;

use anyhow::Context;
use serde::Deserialize;

use super::report::Verdict;
use crate::workspace::Workspace;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// Checks them.
///
/// # Errors
/// When cargo cannot tell, or `deny.toml` has no list.
pub fn check(workspace: &Workspace) -> anyhow::Result<Verdict> {
    let deny = workspace.root.join("deny.toml");
    let text = fs::read_to_string(&deny).with_context(|| format!("cannot read {}", deny.display()))?;
    let allowed = allowed(&text).with_context(|| format!("no list of licences in {}", deny.display()))?;
    let output = workspace.cargo("metadata").args(["--format-version", "1"]).output();
    let output = output.context("cannot run cargo")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("what cargo metadata prints")?;
    let bad: Vec<_> =
        metadata.packages.iter().filter(|p| !p.is_allowed(&allowed)).map(Package::to_string).collect();
    Ok(if bad.is_empty() { Verdict::Success } else { Verdict::Failure(bad.join("\n")) })
}

impl Package {
    fn is_allowed(&self, allowed: &[&str]) -> bool {
        self.license.as_deref().is_some_and(|license| permits(license, allowed))
    }
}

impl std::fmt::Display for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let license = self.license.as_deref().unwrap_or("without a licence");
        write!(f, "{} {}: {license}", self.name, self.version)
    }
}

/// The strings of `allow = [...]`.
fn allowed(deny: &str) -> Option<Vec<&str>> {
    let (list, _) = deny.split_once("\nallow = [")?.1.split_once(']')?;
    Some(list.split('"').skip(1).step_by(2).collect())
}

/// Whether an SPDX expression can be met with these licences: alternatives of conjunctions, or, with
/// parentheses, a conjunction of alternatives (no package has had more so far; others count as not allowed).
fn permits(expression: &str, allowed: &[&str]) -> bool {
    let known = |one: &str| allowed.contains(&one.trim());
    let (outer, inner) = if expression.contains('(') { (" AND ", " OR ") } else { (" OR ", " AND ") };
    let expression = expression.replace('/', " OR ");
    let part = |part: &str| {
        let mut words = part.trim_matches(['(', ')', ' ']).split(inner);
        if inner == " OR " { words.any(known) } else { words.all(known) }
    };
    let mut parts = expression.split(outer);
    if outer == " AND " { parts.all(part) } else { parts.any(part) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"];
        for good in [
            "MIT",
            "GPL-2.0 OR MIT",
            "MIT/Apache-2.0",
            "(GPL-2.0 OR MIT) AND Unicode-3.0",
            "MIT AND Unicode-3.0",
        ] {
            assert!(permits(good, &allowed), "{good}");
        }
        for bad in ["GPL-3.0-only", "MIT AND GPL-2.0", "(MIT OR GPL-2.0) AND GPL-3.0", ""] {
            assert!(!permits(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn list_of_deny_toml() {
        assert_eq!(allowed("[licenses]\nallow = [\"MIT\", \"ISC\"]\n"), Some(vec!["MIT", "ISC"]));
        assert_eq!(allowed("[licenses]\n"), None);
    }
}
