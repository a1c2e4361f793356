//! How a version comes to be: created, announced, committed.
//!
//! Whatever changes a collection's versions or aliases locks the collection first. So versions are
//! numbered without gaps, and two clients that send the same content get the same pending version.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;
use slipway_model::Millis;
use slipway_model::id::{ArtifactId, CollectionId};

use super::{
    Artifact, ArtifactFile, ArtifactState, LATEST, Manifest, NewArtifact, blob_path, rows, shorten, version_number,
};
use crate::engine::{Field, Records, Tx, params};
use crate::projects::{self, Project};
use crate::{Error, Result, runs};

/// A version whose collection this transaction has locked.
pub(super) struct Locked {
    id: ArtifactId,
    collection: CollectionId,
    state: ArtifactState,
    wanted_aliases: Vec<String>,
}

/// Locks the collection of a version, then reads the version.
pub(super) fn lock(tx: &mut dyn Tx, id: ArtifactId) -> Result<Locked> {
    let key = params![id.entity, id.number];
    let unknown = || Error::not_found("artifact", id);
    let sql = "SELECT collection_id FROM artifacts WHERE entity_id = $1 AND id = $2";
    let collection = CollectionId::new(id.entity, tx.query_opt(sql, key)?.ok_or_else(unknown)?.i64(0)?);
    lock_collection(tx, collection)?;
    let sql = "SELECT state, wanted_aliases FROM artifacts WHERE entity_id = $1 AND id = $2";
    let row = tx.query_opt(sql, key)?.ok_or_else(unknown)?;
    Ok(Locked {
        id,
        collection,
        state: rows::read_state(row.i64(0)?)?,
        wanted_aliases: read_list(&row.text(1)?)?,
    })
}

/// Locks a collection and returns the index that its next version gets.
fn lock_collection(tx: &mut dyn Tx, id: CollectionId) -> Result<i64> {
    let sql = format!(
        "SELECT next_index FROM collections WHERE entity_id = $1 AND id = $2{}",
        tx.for_update()
    );
    tx.query_one(&sql, params![id.entity, id.number])?.i64(0)
}

/// See [`crate::Store::create_artifact`].
pub(super) fn create(tx: &mut dyn Tx, new: &NewArtifact, now: Millis) -> Result<(Artifact, Option<(ArtifactId, i64)>)> {
    check_aliases(&new.aliases)?;
    let (project, _) = projects::ensure(tx, &new.entity, &new.project, now)?;
    let collection = ensure_collection(tx, &project, new, now)?;
    lock_collection(tx, collection)?;
    let id = match existing(tx, collection, new)? {
        Some((id, ArtifactState::Committed)) => {
            set_aliases(tx, collection, id, &new.aliases)?;
            id
        }
        Some((id, _)) => {
            add_to_pending(tx, id, new, now)?;
            id
        }
        None => insert(tx, collection, new, now)?,
    };
    if let Some(client_id) = &new.client_id {
        let sql = "INSERT INTO artifact_client_ids (client_id, entity_id, artifact_id) VALUES ($1, $2, $3) \
             ON CONFLICT (client_id) DO NOTHING";
        tx.execute(sql, params![client_id, id.entity, id.number])?;
    }
    let latest = rows::by_alias(tx, collection, LATEST)?;
    let latest = latest.and_then(|latest| Some((latest.id, latest.version_index?)));
    Ok((rows::require(tx, id)?, latest))
}

fn ensure_collection(tx: &mut dyn Tx, project: &Project, new: &NewArtifact, now: Millis) -> Result<CollectionId> {
    let sql = "INSERT INTO collections (entity_id, project_id, kind, name, next_index, created_at) \
         VALUES ($1, $2, $3, $4, 0, $5) ON CONFLICT (entity_id, project_id, name) DO NOTHING";
    tx.execute(
        sql,
        params![project.entity_id, project.id, &new.kind, &new.collection, now],
    )?;
    let sql = "SELECT id, kind FROM collections WHERE entity_id = $1 AND project_id = $2 AND name = $3";
    let row = tx.query_one(sql, params![project.entity_id, project.id, &new.collection])?;
    let kind = row.text(1)?;
    if kind != new.kind {
        return Err(Error::Invalid(format!(
            "collection `{}` holds artifacts of type `{kind}`; log type `{}` under another name",
            new.collection, new.kind
        )));
    }
    Ok(CollectionId::new(project.entity_id, row.i64(0)?))
}

/// The version that answers a request without making one.
fn existing(
    tx: &mut dyn Tx,
    collection: CollectionId,
    new: &NewArtifact,
) -> Result<Option<(ArtifactId, ArtifactState)>> {
    let key = params![collection.entity, collection.number];
    let mut found = None;
    if let Some(client_id) = &new.client_id {
        let sql = "SELECT a.id, a.state FROM artifact_client_ids i \
             JOIN artifacts a ON a.entity_id = i.entity_id AND a.id = i.artifact_id \
             WHERE a.entity_id = $1 AND a.collection_id = $2 AND i.client_id = $3 AND a.state < 2";
        found = tx.query_opt(sql, &[key, params![client_id]].concat())?;
    }
    if found.is_none() && !new.digest.is_empty() {
        let states = if new.deduplicate { "a.state < 2" } else { "a.state = 0" };
        // A committed version first, and the newest of them.
        let sql = format!(
            "SELECT a.id, a.state FROM artifacts a WHERE a.entity_id = $1 AND a.collection_id = $2 AND a.digest = $3 \
             AND {states} ORDER BY a.state DESC, a.id DESC LIMIT 1"
        );
        found = tx.query_opt(&sql, &[key, params![&new.digest]].concat())?;
    }
    let read = |row: crate::engine::Row| {
        let id = ArtifactId::new(collection.entity, row.i64(0)?);
        Ok((id, rows::read_state(row.i64(1)?)?))
    };
    found.map(read).transpose()
}

fn insert(tx: &mut dyn Tx, collection: CollectionId, new: &NewArtifact, now: Millis) -> Result<ArtifactId> {
    let run_number = new.run.as_ref().map(|run| runs::number(tx, run)).transpose()?.flatten();
    let run = new.run.as_ref();
    let sql = "INSERT INTO artifacts (entity_id, collection_id, state, digest, description, metadata, tags, \
         wanted_aliases, size, file_count, run_number, run_entity, run_project, run_id, client_id, created_at, \
         updated_at) VALUES ($1, $2, 0, $3, $4, $5, $6, $7, 0, 0, $8, $9, $10, $11, $12, $13, $13) RETURNING id";
    let params = params![
        collection.entity,
        collection.number,
        &new.digest,
        new.description.as_deref(),
        new.metadata.as_deref(),
        json!(new.tags).to_string(),
        json!(new.aliases).to_string(),
        run_number,
        run.map(|run| &run.entity),
        run.map(|run| &run.project),
        run.map(|run| &run.run),
        new.client_id.as_deref(),
        now,
    ];
    Ok(ArtifactId::new(collection.entity, tx.query_one(sql, params)?.i64(0)?))
}

/// What a second request for a pending version adds to it: clients ask twice, once for each of
/// their parts, and only one of them names the run.
fn add_to_pending(tx: &mut dyn Tx, id: ArtifactId, new: &NewArtifact, now: Millis) -> Result<()> {
    let key = params![id.entity, id.number];
    let sql = "SELECT wanted_aliases, tags, run_id FROM artifacts WHERE entity_id = $1 AND id = $2";
    let row = tx.query_one(sql, key)?;
    let aliases = union(read_list(&row.text(0)?)?, &new.aliases);
    let tags = union(read_list(&row.text(1)?)?, &new.tags);
    let sql = "UPDATE artifacts SET wanted_aliases = $3, tags = $4, metadata = COALESCE(CAST($5 AS TEXT), metadata), \
         description = COALESCE(CAST($6 AS TEXT), description), updated_at = $7 WHERE entity_id = $1 AND id = $2";
    let (metadata, description) = (new.metadata.as_deref(), new.description.as_deref());
    let (aliases, tags) = (json!(aliases).to_string(), json!(tags).to_string());
    tx.execute(sql, &[key, params![aliases, tags, metadata, description, now]].concat())?;
    if let (Some(run), None) = (&new.run, row.opt_text(2)?) {
        let number = runs::number(tx, run)?;
        let sql = "UPDATE artifacts SET run_number = $3, run_entity = $4, run_project = $5, run_id = $6 \
             WHERE entity_id = $1 AND id = $2";
        tx.execute(
            sql,
            &[key, params![number, &run.entity, &run.project, &run.run]].concat(),
        )?;
    }
    Ok(())
}

/// See [`crate::Store::create_manifest`].
pub(super) fn announce_manifest(
    tx: &mut dyn Tx,
    id: ArtifactId,
    name: &str,
    digest: &str,
    kind: &str,
    now: Millis,
) -> Result<Manifest> {
    if !digest.is_empty() {
        blob_path(id.entity, digest)?;
    }
    let locked = lock(tx, id)?;
    let key = params![id.entity, id.number, name];
    let select = "SELECT id, entity_id, artifact_id, name, digest, kind FROM manifests \
         WHERE entity_id = $1 AND artifact_id = $2 AND name = $3";
    let known = tx
        .query_opt(select, key)?
        .as_ref()
        .map(rows::read_manifest)
        .transpose()?;
    match known {
        Some(manifest) if digest.is_empty() || manifest.digest == digest => return Ok(manifest),
        _ if locked.state != ArtifactState::Pending => return Err(complete(id)),
        _ => {}
    }
    let sql = "INSERT INTO manifests (entity_id, artifact_id, name, digest, kind) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (entity_id, artifact_id, name) DO UPDATE SET digest = excluded.digest, kind = excluded.kind";
    tx.execute(sql, &[key, params![digest, kind]].concat())?;
    let sql = "UPDATE artifacts SET updated_at = $3 WHERE entity_id = $1 AND id = $2";
    tx.execute(sql, params![id.entity, id.number, now])?;
    rows::read_manifest(&tx.query_one(select, key)?)
}

/// See [`crate::Store::create_artifact_files`].
pub(super) fn announce_files(
    tx: &mut dyn Tx,
    id: ArtifactId,
    files: &[(String, String)],
) -> Result<Vec<(ArtifactFile, bool)>> {
    let paths = files
        .iter()
        .map(|(_, md5)| blob_path(id.entity, md5))
        .collect::<Result<Vec<_>>>()?;
    let locked = lock(tx, id)?;
    if locked.state != ArtifactState::Pending {
        return Err(complete(id));
    }
    let by_name: BTreeMap<&String, &String> = files.iter().map(|(name, md5)| (name, md5)).collect();
    let by_name = by_name.into_iter().map(|(name, md5)| params![name, md5].to_vec());
    let records = Records::new(tx.dialect(), &[("name", Field::Text), ("md5", Field::Text)], by_name)?;
    let sql = format!(
        "INSERT INTO artifact_files (entity_id, artifact_id, name, md5) SELECT $1, $2, name, md5 FROM {} AS new \
         WHERE true ON CONFLICT (entity_id, artifact_id, name) DO UPDATE SET md5 = excluded.md5",
        records.source(3)
    );
    tx.execute(&sql, &records.after(params![id.entity, id.number]))?;

    let stored = paths.iter().map(|path| params![path].to_vec());
    let stored = Records::new(tx.dialect(), &[("path", Field::Text)], stored)?;
    let sql = format!("SELECT path, size FROM blobs WHERE path IN {}", stored.source(1));
    let mut sizes = HashMap::new();
    for row in tx.query(&sql, &stored.after(params![]))? {
        sizes.insert(row.text(0)?, row.i64(1)?);
    }
    let answers = files.iter().zip(paths).map(|((name, md5), blob)| {
        let size = sizes.get(&blob).copied();
        let file = ArtifactFile {
            name: name.clone(),
            md5: md5.clone(),
            size,
            blob,
        };
        (file, size.is_some())
    });
    Ok(answers.collect())
}

/// See [`crate::Store::commit_artifact`].
pub(super) fn commit(
    tx: &mut dyn Tx,
    id: ArtifactId,
    contents: &[(String, String, i64)],
    references: usize,
    now: Millis,
) -> Result<Artifact> {
    let locked = lock(tx, id)?;
    match locked.state {
        ArtifactState::Committed => return rows::require(tx, id),
        ArtifactState::Deleted => return Err(Error::not_found("artifact", id)),
        ArtifactState::Pending => {}
    }
    let mut files = BTreeMap::new();
    for (name, md5, size) in contents {
        files.insert(name, (md5, *size, blob_path(id.entity, md5)?));
    }
    let paths = files.iter().map(|(name, (_, _, path))| params![*name, path].to_vec());
    let records = Records::new(tx.dialect(), &[("name", Field::Text), ("path", Field::Text)], paths)?;
    let missing = format!(
        "SELECT new.name FROM {} AS new LEFT JOIN blobs b ON b.path = new.path WHERE b.path IS NULL LIMIT 1",
        records.source(1)
    );
    if let Some(row) = tx.query_opt(&missing, &records.after(params![]))? {
        return Err(Error::Invalid(format!(
            "file `{}` of artifact `{id}` is not uploaded; upload it, then commit again",
            shorten(&row.text(0)?)
        )));
    }
    let key = params![id.entity, id.number];
    tx.execute(
        "DELETE FROM artifact_files WHERE entity_id = $1 AND artifact_id = $2",
        key,
    )?;
    let fields = [("name", Field::Text), ("md5", Field::Text), ("size", Field::Int)];
    let rows = files
        .iter()
        .map(|(name, (md5, size, _))| params![*name, *md5, *size].to_vec());
    let records = Records::new(tx.dialect(), &fields, rows)?;
    let fill = format!(
        "INSERT INTO artifact_files (entity_id, artifact_id, name, md5, size) \
         SELECT $1, $2, new.name, new.md5, new.size FROM {} AS new",
        records.source(3)
    );
    tx.execute(&fill, &records.after(params![id.entity, id.number]))?;

    let index = lock_collection(tx, locked.collection)?;
    let next = "UPDATE collections SET next_index = $3 WHERE entity_id = $1 AND id = $2";
    tx.execute(
        next,
        params![locked.collection.entity, locked.collection.number, index + 1],
    )?;
    let size = files
        .values()
        .fold(0_i64, |sum, (_, size, _)| sum.saturating_add(*size));
    let count = files.len().saturating_add(references) as i64;
    let sql = "UPDATE artifacts SET state = 1, version_index = $3, size = $4, file_count = $5, \
         wanted_aliases = '[]', updated_at = $6 WHERE entity_id = $1 AND id = $2";
    tx.execute(sql, &[key, params![index, size, count, now]].concat())?;
    let aliases = union(locked.wanted_aliases, &[LATEST.to_owned()]);
    set_aliases(tx, locked.collection, id, &aliases)?;
    rows::require(tx, id)
}

/// Makes these the aliases of a version, as [`crate::Store::update_artifact`] says.
pub(super) fn replace_aliases(tx: &mut dyn Tx, locked: &Locked, aliases: &[String]) -> Result<()> {
    check_aliases(aliases)?;
    let key = params![locked.id.entity, locked.id.number];
    let list = json!(aliases).to_string();
    if locked.state == ArtifactState::Pending {
        let sql = "UPDATE artifacts SET wanted_aliases = $3 WHERE entity_id = $1 AND id = $2";
        return tx.execute(sql, &[key, params![list]].concat()).map(drop);
    }
    let kept = aliases.iter().map(|alias| params![alias].to_vec());
    let kept = Records::new(tx.dialect(), &[("alias", Field::Text)], kept)?;
    let sql = format!(
        "DELETE FROM aliases WHERE entity_id = $1 AND artifact_id = $2 AND alias <> '{LATEST}' AND alias NOT IN {}",
        kept.source(3)
    );
    tx.execute(&sql, &kept.after(key))?;
    set_aliases(tx, locked.collection, locked.id, aliases)
}

/// Moves aliases to a version.
fn set_aliases(tx: &mut dyn Tx, collection: CollectionId, id: ArtifactId, aliases: &[String]) -> Result<()> {
    let sql = "INSERT INTO aliases (entity_id, collection_id, alias, artifact_id) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (entity_id, collection_id, alias) DO UPDATE SET artifact_id = excluded.artifact_id";
    for alias in aliases {
        tx.execute(sql, params![collection.entity, collection.number, alias, id.number])?;
    }
    Ok(())
}

fn check_aliases(aliases: &[String]) -> Result<()> {
    match aliases.iter().find(|alias| version_number(alias).is_some()) {
        Some(alias) => Err(Error::Invalid(format!(
            "`{alias}` cannot be an alias: `v` and a number name versions"
        ))),
        None => Ok(()),
    }
}

fn complete(id: ArtifactId) -> Error {
    Error::Invalid(format!(
        "artifact `{id}` is complete; log a new version to change its files"
    ))
}

fn read_list(text: &str) -> Result<Vec<String>> {
    serde_json::from_str(text).map_err(|error| Error::Internal(format!("a list of an artifact is damaged: {error}")))
}

fn union(mut list: Vec<String>, more: &[String]) -> Vec<String> {
    for text in more {
        if !list.contains(text) {
            list.push(text.clone());
        }
    }
    list
}
