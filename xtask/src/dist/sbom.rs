//! What was built in: a CycloneDX 1.6 document from what cargo knows of the program's crates.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Release;
use crate::cargo::{cargo, root};

/// The document.
pub fn of(release: &Release) -> Result<String> {
    let words = [
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        &release.target,
    ];
    let asked = cargo(&words).output().context("cannot start cargo")?;
    ensure!(
        asked.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&asked.stderr)
    );
    let metadata: Value = serde_json::from_slice(&asked.stdout)?;
    let lock = std::fs::read_to_string(root().join("Cargo.lock"))?;
    document(&metadata, &checksums(&lock), release)
}

fn document(
    metadata: &Value,
    checksums: &BTreeMap<(String, String), String>,
    release: &Release,
) -> Result<String> {
    let packages = list(metadata, "packages");
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"], "nodes")
        .iter()
        .map(|node| (text(node, "id"), node))
        .collect();
    let program = packages
        .iter()
        .find(|package| text(package, "name") == "rbee");
    let program = text(program.context("the package rbee is there")?, "id");
    let built_in = reached(program, &nodes);
    let by_id: BTreeMap<&str, &Value> = packages.iter().map(|one| (text(one, "id"), one)).collect();
    let purl = |id: &str| {
        let package = by_id.get(id)?;
        Some(format!(
            "pkg:cargo/{}@{}",
            text(package, "name"),
            text(package, "version")
        ))
    };
    let components: Vec<Value> = (built_in.iter())
        .filter(|id| **id != program)
        .filter_map(|id| Some(component(by_id.get(id)?, &purl(id)?, checksums)))
        .collect();
    let dependencies: Vec<Value> = (built_in.iter())
        .filter_map(|id| {
            let on: Vec<String> = depends_on(nodes.get(id)?).filter_map(&purl).collect();
            Some(json!({"ref": purl(id)?, "dependsOn": on}))
        })
        .collect();
    let own = json!({"type": "application", "name": "rbee", "version": release.version,
                     "bom-ref": purl(program), "purl": purl(program)});
    let document = json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
                          "metadata": {"component": own, "properties": [{"name": "rbee:target", "value": release.target}]},
                          "components": components, "dependencies": dependencies});
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn component(package: &Value, purl: &str, checksums: &BTreeMap<(String, String), String>) -> Value {
    let (name, version) = (text(package, "name"), text(package, "version"));
    let mut component =
        json!({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl});
    if let Some(licence) = package["license"].as_str() {
        // Old manifests separate alternatives by a stroke.
        component["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
    }
    if let Some(sum) = checksums.get(&(name.to_owned(), version.to_owned())) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
    }
    component
}

/// Everything that is linked into a package: no crate that only builds or tests.
fn reached<'a>(from: &'a str, nodes: &BTreeMap<&'a str, &'a Value>) -> BTreeSet<&'a str> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(id) = next.pop() {
        if found.insert(id)
            && let Some(node) = nodes.get(id)
        {
            next.extend(depends_on(node));
        }
    }
    found
}

fn depends_on(node: &Value) -> impl Iterator<Item = &str> {
    let is_linked = |one: &&Value| {
        list(one, "dep_kinds")
            .iter()
            .any(|kind| kind["kind"].is_null())
    };
    list(node, "deps")
        .iter()
        .filter(is_linked)
        .map(|one| text(one, "pkg"))
}

/// The checksums of a lock file, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |block: &str, name: &str| {
        let line = block
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} = \"")));
        line.map(|line| line.trim_end_matches('"').to_owned())
    };
    lock.split("[[package]]")
        .filter_map(|block| {
            let key = (field(block, "name")?, field(block, "version")?);
            Some((key, field(block, "checksum")?))
        })
        .collect()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_with_its_licence_and_digest() {
        let package = |name: &str| json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0"});
        let on = |name: &str, kind: Value| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [package("rbee"), package("linked"), package("deep"), package("builds")],
            "resolve": {"nodes": [
                {"id": "rbee", "deps": [on("linked", Value::Null), on("builds", json!("build"))]},
                {"id": "linked", "deps": [on("deep", Value::Null)]},
                {"id": "deep", "deps": []},
                {"id": "builds", "deps": []},
            ]},
        });
        let lock = "[[package]]\nname = \"deep\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n";
        let release = Release {
            version: "1.0.0".to_owned(),
            target: "x86_64-unknown-linux-gnu".to_owned(),
            program: Vec::new(),
            time: 0,
        };
        let text = document(&metadata, &checksums(lock), &release).unwrap();
        let made: Value = serde_json::from_str(&text).unwrap();
        let names: Vec<&str> = list(&made, "components")
            .iter()
            .map(|one| super::text(one, "name"))
            .collect();
        assert_eq!(names, ["deep", "linked"]);
        assert_eq!(made["components"][0]["hashes"][0]["content"], "abc");
        assert_eq!(
            made["components"][0]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
        assert_eq!(
            made["dependencies"][2]["dependsOn"],
            json!(["pkg:cargo/linked@1.0.0"])
        );
    }
}
