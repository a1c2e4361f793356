//! What the client reads of artifacts that others made.

use std::path::{Component, Path};

use slipway_client::{ArtifactName, file_path};
use slipway_wire::artifact::Manifest;

use crate::texts;

/// Manifests as a download reads them, or lines of names: no file leaves its folder, and no two names are
/// one file.
pub fn artifact_path(input: &[u8]) {
    match serde_json::from_slice::<Manifest>(input) {
        Ok(manifest) => manifest.contents.keys().for_each(|name| one_path(name)),
        Err(_) => String::from_utf8_lossy(input).lines().for_each(one_path),
    }
}

fn one_path(name: &str) {
    let Ok(path) = file_path(name) else { return };
    let folder = Path::new("/cache/code");
    let place = folder.join(&path);
    let inside = place.strip_prefix(folder).expect("a path in the folder");
    let parts: Vec<&str> = inside
        .components()
        .map(|part| match part {
            Component::Normal(part) => part.to_str().expect("text"),
            other => panic!("{name:?} leads out of its folder by {other:?}"),
        })
        .collect();
    assert_eq!(parts.join("/"), name, "another name leads there too");
}

/// Names of artifacts, `entity/project/collection:alias`.
pub fn artifact_name(input: &[u8]) {
    let Some([text]) = texts(input) else { return };
    if let Ok(name) = ArtifactName::parse(text, Some("alice"), Some("proj")) {
        let again = ArtifactName::parse(&name.to_string(), None, None).expect("a full name");
        assert_eq!(again, name);
        assert!(!name.entity.contains('/') && !name.project.contains('/') && !name.collection.contains('/'));
    }
}
