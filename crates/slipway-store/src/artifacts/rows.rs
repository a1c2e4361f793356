//! The SQL that reads artifacts.

use std::collections::HashMap;

use slipway_model::id::{ArtifactId, CollectionId, ManifestId, RunName};

use super::{Artifact, ArtifactFile, ArtifactState, Collection, LATEST, Manifest, blob_path, version_number};
use crate::engine::{Field, Records, Row, Tx, Value, params};
use crate::projects::Project;
use crate::{Error, Result};

const SELECT: &str = "SELECT a.id, a.entity_id, a.state, a.version_index, a.digest, a.description, a.metadata, a.tags, \
     a.size, a.file_count, a.run_entity, a.run_project, a.run_id, a.client_id, a.created_at, a.updated_at, \
     (SELECT MAX(m.id) FROM manifests m WHERE m.entity_id = a.entity_id AND m.artifact_id = a.id AND m.digest <> ''), \
     c.id, c.entity_id, e.name, p.name, p.id, c.kind, c.name, c.created_at \
     FROM artifacts a JOIN collections c ON c.entity_id = a.entity_id AND c.id = a.collection_id \
     JOIN projects p ON p.entity_id = c.entity_id AND p.id = c.project_id \
     JOIN entities e ON e.id = c.entity_id";

const SELECT_COLLECTION: &str = "SELECT c.id, c.entity_id, e.name, p.name, p.id, c.kind, c.name, c.created_at \
     FROM collections c JOIN projects p ON p.entity_id = c.entity_id AND p.id = c.project_id \
     JOIN entities e ON e.id = c.entity_id";

/// The versions that a clause selects (`a` is the version, `c` its collection), with their aliases.
pub(super) fn load(tx: &mut dyn Tx, clause: &str, params: &[Value]) -> Result<Vec<Artifact>> {
    let rows = tx.query(&format!("{SELECT} {clause}"), params)?;
    let mut artifacts = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    if artifacts.is_empty() {
        return Ok(artifacts);
    }
    let ids = artifacts
        .iter()
        .map(|artifact| params![artifact.id.entity, artifact.id.number].to_vec());
    let fields = [("entity_id", Field::Int), ("artifact_id", Field::Int)];
    let ids = Records::new(tx.dialect(), &fields, ids)?;
    let sql = format!(
        "SELECT artifact_id, alias FROM aliases WHERE (entity_id, artifact_id) IN {} ORDER BY alias",
        ids.source(1)
    );
    let mut aliases: HashMap<i64, Vec<String>> = HashMap::new();
    for row in tx.query(&sql, &ids.after(params![]))? {
        aliases.entry(row.i64(0)?).or_default().push(row.text(1)?);
    }
    for artifact in &mut artifacts {
        artifact.aliases = aliases.remove(&artifact.id.number).unwrap_or_default();
    }
    Ok(artifacts)
}

pub(super) fn find(tx: &mut dyn Tx, id: ArtifactId) -> Result<Option<Artifact>> {
    let found = load(
        tx,
        "WHERE a.entity_id = $1 AND a.id = $2",
        params![id.entity, id.number],
    )?;
    Ok(found.into_iter().next())
}

pub(super) fn require(tx: &mut dyn Tx, id: ArtifactId) -> Result<Artifact> {
    find(tx, id)?.ok_or_else(|| Error::not_found("artifact", id))
}

/// A committed version by alias or number. `latest` is the newest, should nothing bear the alias.
pub(super) fn by_alias(tx: &mut dyn Tx, collection: CollectionId, alias: &str) -> Result<Option<Artifact>> {
    const OF: &str = "WHERE a.entity_id = $1 AND a.collection_id = $2 AND a.state = 1";
    let key = params![collection.entity, collection.number];
    let found = match version_number(alias) {
        Some(index) => {
            let clause = format!("{OF} AND a.version_index = $3");
            load(tx, &clause, &[key, params![index]].concat())?
        }
        None => {
            let clause = format!(
                "{OF} AND a.id = (SELECT artifact_id FROM aliases \
                 WHERE entity_id = $1 AND collection_id = $2 AND alias = $3)"
            );
            load(tx, &clause, &[key, params![alias]].concat())?
        }
    };
    if found.is_empty() && alias == LATEST {
        let newest = load(tx, &format!("{OF} ORDER BY a.version_index DESC LIMIT 1"), key)?;
        return Ok(newest.into_iter().next());
    }
    Ok(found.into_iter().next())
}

pub(super) fn collection(tx: &mut dyn Tx, entity: &str, project: &str, name: &str) -> Result<Option<Collection>> {
    let sql = format!("{SELECT_COLLECTION} WHERE e.name = $1 AND p.name = $2 AND c.name = $3");
    let row = tx.query_opt(&sql, params![entity, project, name])?;
    row.as_ref().map(|row| read_collection(row, 0)).transpose()
}

pub(super) fn collections(tx: &mut dyn Tx, project: &Project, kind: Option<&str>) -> Result<Vec<Collection>> {
    let sql = format!(
        "{SELECT_COLLECTION} WHERE c.entity_id = $1 AND c.project_id = $2 \
         AND (CAST($3 AS TEXT) IS NULL OR c.kind = CAST($3 AS TEXT)) ORDER BY c.name"
    );
    let rows = tx.query(&sql, params![project.entity_id, project.id, kind])?;
    rows.iter().map(|row| read_collection(row, 0)).collect()
}

fn read(row: &Row) -> Result<Artifact> {
    let entity = row.i64(1)?;
    let tags = row.text(7)?;
    Ok(Artifact {
        id: ArtifactId::new(entity, row.i64(0)?),
        collection: read_collection(row, 17)?,
        state: read_state(row.i64(2)?)?,
        version_index: row.opt_i64(3)?,
        digest: row.text(4)?,
        description: row.opt_text(5)?,
        metadata: row.opt_text(6)?,
        size: row.i64(8)?,
        file_count: row.i64(9)?,
        aliases: Vec::new(),
        tags: serde_json::from_str(&tags)
            .map_err(|error| Error::Internal(format!("the tags of an artifact are damaged: {error}")))?,
        run: match (row.opt_text(10)?, row.opt_text(11)?, row.opt_text(12)?) {
            (Some(entity), Some(project), Some(run)) => Some(RunName { entity, project, run }),
            _ => None,
        },
        client_id: row.opt_text(13)?,
        created_at: row.i64(14)?,
        updated_at: row.i64(15)?,
        manifest: row.opt_i64(16)?.map(|number| ManifestId::new(entity, number)),
    })
}

pub(super) fn read_state(code: i64) -> Result<ArtifactState> {
    use ArtifactState as S;
    [S::Pending, S::Committed, S::Deleted]
        .into_iter()
        .find(|state| *state as i64 == code)
        .ok_or_else(|| Error::Internal(format!("an artifact has the unknown state {code}")))
}

fn read_collection(row: &Row, first: usize) -> Result<Collection> {
    Ok(Collection {
        id: CollectionId::new(row.i64(first + 1)?, row.i64(first)?),
        entity: row.text(first + 2)?,
        project: row.text(first + 3)?,
        project_id: row.i64(first + 4)?,
        kind: row.text(first + 5)?,
        name: row.text(first + 6)?,
        created_at: row.i64(first + 7)?,
    })
}

pub(super) fn read_manifest(row: &Row) -> Result<Manifest> {
    let entity = row.i64(1)?;
    let digest = row.text(4)?;
    Ok(Manifest {
        id: ManifestId::new(entity, row.i64(0)?),
        artifact: ArtifactId::new(entity, row.i64(2)?),
        name: row.text(3)?,
        blob: if digest.is_empty() {
            String::new()
        } else {
            blob_path(entity, &digest)?
        },
        digest,
        kind: row.text(5)?,
    })
}

pub(super) fn read_artifact_file(row: &Row, entity: i64) -> Result<ArtifactFile> {
    let md5 = row.text(1)?;
    Ok(ArtifactFile {
        name: row.text(0)?,
        blob: blob_path(entity, &md5)?,
        md5,
        size: row.opt_i64(2)?,
    })
}
