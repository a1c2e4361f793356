//! Artifacts: from creation to numbered versions, and what is known of their bytes.

use slipway_model::id::{ArtifactId, RunName};
use slipway_store::Error;
use slipway_store::artifacts::{Artifact, ArtifactState, NewArtifact};
use slipway_store::runs::RunUpsert;

use crate::bed::{Bed, T0, USER};

crate::cases!(
    a_version_is_created_filled_committed_and_found,
    the_same_client_id_gets_the_same_version,
    the_same_digest_gets_the_same_pending_version,
    a_committed_digest_is_returned_when_duplicates_are_unwanted,
    versions_are_numbered_and_latest_moves,
    many_commits_at_once_are_numbered_without_gaps,
    an_alias_names_one_version_at_a_time,
    version_numbers_are_no_aliases,
    a_collection_holds_one_type,
    the_same_bytes_are_stored_once_in_an_entity,
    a_commit_waits_for_its_bytes_and_is_idempotent,
    a_complete_version_keeps_its_files,
    what_is_said_of_a_version_may_change,
    lineage_outlives_the_run_that_logged,
    unknown_things_are_not_found,
);

/// Base64 of made-up MD5s.
const MD5: [&str; 3] = [
    "CY9rzUYh03PK3k6DJie09g==",
    "1B2M2Y8AsgTpgAmY7PhCfg==",
    "kAFQmDzST7DWlj99KOF/cg==",
];

fn new(digest: &str) -> NewArtifact {
    NewArtifact {
        entity: USER.to_owned(),
        project: "p".to_owned(),
        kind: "job".to_owned(),
        collection: "train".to_owned(),
        digest: digest.to_owned(),
        aliases: Vec::new(),
        tags: Vec::new(),
        description: None,
        metadata: None,
        run: None,
        client_id: None,
        sequence_client_id: None,
        deduplicate: false,
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn create(bed: &Bed, artifact: NewArtifact) -> Artifact {
    bed.store.create_artifact(artifact, T0).await.unwrap().0
}

async fn committed(bed: &Bed, artifact: NewArtifact) -> Artifact {
    let id = create(bed, artifact).await.id;
    bed.store.commit_artifact(id, Vec::new(), 0, T0).await.unwrap()
}

async fn resolve(bed: &Bed, name: &str) -> Option<ArtifactId> {
    let found = bed.store.artifact_by_name(USER, "p", name).await.unwrap();
    found.map(|artifact| artifact.id)
}

async fn a_version_is_created_filled_committed_and_found(bed: &Bed) {
    let store = &bed.store;
    let request = NewArtifact {
        aliases: strings(&["best"]),
        tags: strings(&["t"]),
        description: Some("about".to_owned()),
        metadata: Some(r#"{"_partial":true}"#.to_owned()),
        client_id: Some("client-1".to_owned()),
        ..new("digest")
    };
    let (made, latest) = store.create_artifact(request, T0).await.unwrap();
    assert_eq!(
        (made.state, made.version_index, latest),
        (ArtifactState::Pending, None, None)
    );
    assert_eq!(made.manifest, None);

    let announced = store
        .create_manifest(made.id, "wandb_manifest.json", "", "FULL", T0)
        .await
        .unwrap();
    assert!(announced.blob.is_empty());
    assert_eq!(store.artifact(made.id).await.unwrap().unwrap().manifest, None);
    let files = vec![
        ("wandb-job.json".to_owned(), MD5[0].to_owned()),
        ("a/b=1".to_owned(), MD5[1].to_owned()),
    ];
    let files = store.create_artifact_files(made.id, files).await.unwrap();
    assert!(files.iter().all(|(_, stored)| !stored));
    assert_eq!(files[0].0.name, "wandb-job.json");
    for (file, _) in &files {
        store.blob_stored(&file.blob, 10).await.unwrap();
        assert!(store.is_blob_stored(&file.blob).await.unwrap());
    }
    let manifest = store
        .create_manifest(made.id, "wandb_manifest.json", MD5[2], "FULL", T0)
        .await
        .unwrap();
    assert_eq!((manifest.id, manifest.artifact), (announced.id, made.id));
    assert!(manifest.blob.starts_with("artifacts/"), "{}", manifest.blob);
    assert_eq!(store.manifest(manifest.id).await.unwrap(), Some(manifest.clone()));

    let contents = vec![
        ("wandb-job.json".to_owned(), MD5[0].to_owned(), 365),
        ("a/b=1".to_owned(), MD5[1].to_owned(), 5),
    ];
    let done = store.commit_artifact(made.id, contents, 0, T0 + 9).await.unwrap();
    assert_eq!((done.state, done.version_index), (ArtifactState::Committed, Some(0)));
    assert_eq!((done.size, done.file_count, done.updated_at), (370, 2, T0 + 9));
    assert_eq!(done.aliases, strings(&["best", "latest"]));
    assert_eq!((done.manifest, done.tags.clone()), (Some(manifest.id), strings(&["t"])));
    assert_eq!(done.metadata.as_deref(), Some(r#"{"_partial":true}"#));
    for name in ["train", "train:latest", "train:best", "train:v0"] {
        assert_eq!(resolve(bed, name).await, Some(made.id), "{name}");
    }
    assert_eq!(store.artifact_by_client_id("client-1").await.unwrap(), Some(made.id));
    let files = store.artifact_files(made.id).await.unwrap();
    let names: Vec<(&str, Option<i64>)> = files.iter().map(|file| (file.name.as_str(), file.size)).collect();
    assert_eq!(names, [("a/b=1", Some(5)), ("wandb-job.json", Some(365))]);

    let collection = store.collection(USER, "p", "train").await.unwrap().unwrap();
    assert_eq!((&collection, collection.kind.as_str()), (&done.collection, "job"));
    assert_eq!(store.collections(USER, "p", None).await.unwrap(), [collection.clone()]);
    assert_eq!(
        store.collections(USER, "p", Some("job")).await.unwrap(),
        [collection.clone()]
    );
    assert_eq!(store.collections(USER, "p", Some("model")).await.unwrap(), []);
    assert_eq!(store.versions(collection.id).await.unwrap(), [done]);
}

async fn the_same_client_id_gets_the_same_version(bed: &Bed) {
    bed.store
        .upsert_run(
            run_name("r1"),
            RunUpsert {
                starts: true,
                ..RunUpsert::default()
            },
            T0,
        )
        .await
        .unwrap();
    let request = NewArtifact {
        client_id: Some("client-1".to_owned()),
        run: Some(run_name("r1")),
        ..new("digest")
    };
    let first = create(bed, request.clone()).await;
    // The second part of the client names no run and may have more to say.
    let second = NewArtifact {
        run: None,
        aliases: strings(&["best"]),
        ..request.clone()
    };
    let again = create(bed, second).await;
    assert_eq!(again.id, first.id);
    assert_eq!(again.run, Some(run_name("r1")));
    let done = bed.store.commit_artifact(first.id, Vec::new(), 0, T0).await.unwrap();
    assert_eq!(done.aliases, strings(&["best", "latest"]));
    let (late, latest) = bed.store.create_artifact(request.clone(), T0).await.unwrap();
    assert_eq!(
        (late.id, late.state, latest),
        (first.id, ArtifactState::Committed, Some((first.id, 0)))
    );
    // An id that another collection uses is no way into this one.
    let elsewhere = NewArtifact {
        collection: "other".to_owned(),
        ..request
    };
    assert_ne!(create(bed, elsewhere).await.id, first.id);
    assert_eq!(
        bed.store.artifact_by_client_id("client-1").await.unwrap(),
        Some(first.id)
    );
}

async fn the_same_digest_gets_the_same_pending_version(bed: &Bed) {
    let first = create(bed, new("digest")).await;
    assert_eq!(create(bed, new("digest")).await.id, first.id);
    assert_ne!(create(bed, new("other")).await.id, first.id);
    let creates = (0..8).map(|_| {
        let store = bed.store.clone();
        tokio::spawn(async move { store.create_artifact(new("third"), T0).await.unwrap().0.id })
    });
    let mut ids = std::collections::HashSet::new();
    for create in creates.collect::<Vec<_>>() {
        ids.insert(create.await.unwrap());
    }
    assert_eq!(ids.len(), 1);
}

async fn a_committed_digest_is_returned_when_duplicates_are_unwanted(bed: &Bed) {
    let first = committed(bed, new("digest")).await;
    let again = NewArtifact {
        deduplicate: true,
        aliases: strings(&["best"]),
        ..new("digest")
    };
    let found = create(bed, again).await;
    assert_eq!((found.id, found.version_index), (first.id, Some(0)));
    assert_eq!(found.aliases, strings(&["best", "latest"]));
    assert_ne!(create(bed, new("digest")).await.id, first.id, "duplicates are wanted");
}

async fn versions_are_numbered_and_latest_moves(bed: &Bed) {
    let mut ids = Vec::new();
    for number in 0..3 {
        let version = committed(bed, new(&format!("digest {number}"))).await;
        assert_eq!(version.version_index, Some(number));
        assert_eq!(resolve(bed, "train").await, Some(version.id));
        ids.push(version.id);
    }
    assert_eq!(resolve(bed, "train:v1").await, Some(ids[1]));
    assert_eq!(resolve(bed, "train:v3").await, None);
    create(bed, new("pending")).await;
    assert_eq!(
        resolve(bed, "train:latest").await,
        Some(ids[2]),
        "a pending version has no name"
    );
    let collection = bed.store.collection(USER, "p", "train").await.unwrap().unwrap();
    let versions = bed.store.versions(collection.id).await.unwrap();
    let indexes: Vec<Option<i64>> = versions.iter().map(|version| version.version_index).collect();
    assert_eq!(indexes, [Some(2), Some(1), Some(0)]);
    assert_eq!(versions[1].aliases, Vec::<String>::new());
}

async fn many_commits_at_once_are_numbered_without_gaps(bed: &Bed) {
    let mut ids = Vec::new();
    for number in 0..12 {
        ids.push(create(bed, new(&format!("digest {number}"))).await.id);
    }
    let commits = ids.into_iter().map(|id| {
        let store = bed.store.clone();
        tokio::spawn(async move {
            store
                .commit_artifact(id, Vec::new(), 0, T0)
                .await
                .unwrap()
                .version_index
        })
    });
    let mut indexes = Vec::new();
    for commit in commits.collect::<Vec<_>>() {
        indexes.push(commit.await.unwrap());
    }
    indexes.sort_unstable();
    assert_eq!(indexes, (0..12).map(Some).collect::<Vec<_>>());
    let latest = bed.store.artifact_by_name(USER, "p", "train").await.unwrap().unwrap();
    assert_eq!(latest.version_index, Some(11));
}

async fn an_alias_names_one_version_at_a_time(bed: &Bed) {
    let with_alias = |digest| NewArtifact {
        aliases: strings(&["best"]),
        ..new(digest)
    };
    let first = committed(bed, with_alias("one")).await;
    let second = committed(bed, with_alias("two")).await;
    assert_eq!(resolve(bed, "train:best").await, Some(second.id));
    let aliases = Some(strings(&["best", "old"]));
    let updated = bed
        .store
        .update_artifact(first.id, None, None, aliases, None, T0)
        .await
        .unwrap();
    assert_eq!(updated.aliases, strings(&["best", "old"]));
    assert_eq!(resolve(bed, "train:best").await, Some(first.id));
    // `latest` goes only where a version is given it.
    bed.store
        .update_artifact(second.id, None, None, Some(Vec::new()), None, T0)
        .await
        .unwrap();
    assert_eq!(resolve(bed, "train").await, Some(second.id));
    let aliases = Some(strings(&["latest"]));
    let updated = bed
        .store
        .update_artifact(first.id, None, None, aliases, None, T0)
        .await
        .unwrap();
    assert_eq!(updated.aliases, strings(&["latest"]));
    assert_eq!(resolve(bed, "train").await, Some(first.id));
    assert_eq!(resolve(bed, "train:old").await, None);
}

async fn version_numbers_are_no_aliases(bed: &Bed) {
    let first = committed(bed, new("one")).await;
    let request = NewArtifact {
        aliases: strings(&["v7"]),
        ..new("two")
    };
    assert!(matches!(
        bed.store.create_artifact(request, T0).await,
        Err(Error::Invalid(_))
    ));
    let aliases = Some(strings(&["v7"]));
    let refused = bed.store.update_artifact(first.id, None, None, aliases, None, T0).await;
    assert!(matches!(refused, Err(Error::Invalid(_))));
}

async fn a_collection_holds_one_type(bed: &Bed) {
    create(bed, new("one")).await;
    let other = NewArtifact {
        kind: "model".to_owned(),
        ..new("two")
    };
    let refused = bed.store.create_artifact(other.clone(), T0).await;
    assert!(matches!(refused, Err(Error::Invalid(_))));
    let elsewhere = NewArtifact {
        project: "q".to_owned(),
        ..other
    };
    assert_eq!(create(bed, elsewhere).await.collection.kind, "model");
}

async fn the_same_bytes_are_stored_once_in_an_entity(bed: &Bed) {
    let store = &bed.store;
    store.create_team("vision", USER, T0).await.unwrap();
    let file = |name: &str| vec![(name.to_owned(), MD5[0].to_owned())];
    let first = create(bed, new("one")).await;
    let announced = store.create_artifact_files(first.id, file("a")).await.unwrap();
    store.blob_stored(&announced[0].0.blob, 7).await.unwrap();
    let second = create(bed, new("two")).await;
    let files = store
        .create_artifact_files(second.id, [file("b"), file("c"), file("b")].concat())
        .await
        .unwrap();
    let names: Vec<&str> = files.iter().map(|(file, _)| file.name.as_str()).collect();
    assert_eq!(names, ["b", "c", "b"], "answered in the order given");
    for (file, stored) in files {
        assert!(stored && file.blob == announced[0].0.blob && file.size == Some(7));
    }
    let elsewhere = NewArtifact {
        entity: "vision".to_owned(),
        ..new("one")
    };
    let elsewhere = create(bed, elsewhere).await;
    let files = store.create_artifact_files(elsewhere.id, file("a")).await.unwrap();
    assert!(!files[0].1, "another entity has bytes of its own");
}

async fn a_commit_waits_for_its_bytes_and_is_idempotent(bed: &Bed) {
    let store = &bed.store;
    let made = create(bed, new("one")).await;
    let contents = || vec![("a".to_owned(), MD5[0].to_owned(), 1)];
    let refused = store.commit_artifact(made.id, contents(), 0, T0).await;
    assert!(
        matches!(&refused, Err(Error::Invalid(text)) if text.contains("`a`")),
        "{refused:?}"
    );
    assert_eq!(
        store.artifact(made.id).await.unwrap().unwrap().state,
        ArtifactState::Pending
    );
    let bad = vec![("a".to_owned(), "not base64".to_owned(), 1)];
    assert!(matches!(
        store.commit_artifact(made.id, bad, 0, T0).await,
        Err(Error::Invalid(_))
    ));

    let files = vec![("a".to_owned(), MD5[0].to_owned())];
    let announced = store.create_artifact_files(made.id, files).await.unwrap();
    store.blob_stored(&announced[0].0.blob, 1).await.unwrap();
    let done = store.commit_artifact(made.id, contents(), 0, T0).await.unwrap();
    let again = store.commit_artifact(made.id, Vec::new(), 0, T0 + 5).await.unwrap();
    assert_eq!(done, again);
}

async fn a_complete_version_keeps_its_files(bed: &Bed) {
    let store = &bed.store;
    let made = create(bed, new("one")).await;
    let manifest = store
        .create_manifest(made.id, "wandb_manifest.json", MD5[0], "FULL", T0)
        .await
        .unwrap();
    store.commit_artifact(made.id, Vec::new(), 0, T0).await.unwrap();
    let again = store
        .create_manifest(made.id, "wandb_manifest.json", MD5[0], "FULL", T0)
        .await
        .unwrap();
    assert_eq!(again, manifest);
    for (name, digest) in [("wandb_manifest.json", MD5[1]), ("other.json", MD5[0])] {
        let refused = store.create_manifest(made.id, name, digest, "FULL", T0).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{name}");
    }
    let files = vec![("a".to_owned(), MD5[0].to_owned())];
    assert!(matches!(
        store.create_artifact_files(made.id, files).await,
        Err(Error::Invalid(_))
    ));
}

async fn what_is_said_of_a_version_may_change(bed: &Bed) {
    let store = &bed.store;
    let made = committed(
        bed,
        NewArtifact {
            tags: strings(&["a"]),
            ..new("one")
        },
    )
    .await;
    let metadata = Some(r#"{"input_types":{}}"#.to_owned());
    let updated = store
        .update_artifact(made.id, metadata.clone(), None, None, None, T0 + 1)
        .await
        .unwrap();
    assert_eq!((updated.metadata.clone(), updated.updated_at), (metadata, T0 + 1));
    assert_eq!(
        (updated.tags.clone(), updated.aliases.clone()),
        (strings(&["a"]), strings(&["latest"]))
    );
    assert_eq!(updated.version_index, Some(0), "no new version");
    let tags = Some(strings(&["b"]));
    let updated = store
        .update_artifact(made.id, None, Some("about".to_owned()), None, tags, T0 + 2)
        .await
        .unwrap();
    assert_eq!(
        (updated.description.as_deref(), updated.tags),
        (Some("about"), strings(&["b"]))
    );
}

fn run_name(id: &str) -> RunName {
    RunName {
        entity: USER.to_owned(),
        project: "p".to_owned(),
        run: id.to_owned(),
    }
}

async fn lineage_outlives_the_run_that_logged(bed: &Bed) {
    let store = &bed.store;
    let starts = || RunUpsert {
        starts: true,
        ..RunUpsert::default()
    };
    for id in ["maker", "user"] {
        store.upsert_run(run_name(id), starts(), T0).await.unwrap();
    }
    let made = committed(
        bed,
        NewArtifact {
            run: Some(run_name("maker")),
            ..new("one")
        },
    )
    .await;
    for _ in 0..2 {
        store.use_artifact(&run_name("user"), made.id, T0).await.unwrap();
    }
    assert_eq!(
        store.logged_artifacts(&run_name("maker")).await.unwrap(),
        [made.clone()]
    );
    assert_eq!(store.used_artifacts(&run_name("user")).await.unwrap(), [made.clone()]);
    assert_eq!(store.used_artifacts(&run_name("maker")).await.unwrap(), []);

    store.delete_run(&run_name("maker")).await.unwrap();
    assert_eq!(resolve(bed, "train:v0").await, Some(made.id));
    assert_eq!(store.used_artifacts(&run_name("user")).await.unwrap(), [made]);
    store.upsert_run(run_name("maker"), starts(), T0).await.unwrap();
    assert_eq!(
        store.logged_artifacts(&run_name("maker")).await.unwrap(),
        [],
        "another run of the same id"
    );
}

async fn unknown_things_are_not_found(bed: &Bed) {
    let store = &bed.store;
    let nothing = ArtifactId::new(1, 999);
    assert_eq!(store.artifact(nothing).await.unwrap(), None);
    assert_eq!(resolve(bed, "nothing").await, None);
    assert_eq!(store.artifact_by_client_id("nothing").await.unwrap(), None);
    let not_found = |result: Result<(), Error>| assert!(matches!(result, Err(Error::NotFound { .. })), "{result:?}");
    not_found(store.commit_artifact(nothing, Vec::new(), 0, T0).await.map(drop));
    not_found(store.create_manifest(nothing, "m", "", "FULL", T0).await.map(drop));
    not_found(store.create_artifact_files(nothing, Vec::new()).await.map(drop));
    not_found(
        store
            .update_artifact(nothing, None, None, None, None, T0)
            .await
            .map(drop),
    );
    not_found(store.use_artifact(&run_name("nobody"), nothing, T0).await);
    let elsewhere = NewArtifact {
        entity: "nobody".to_owned(),
        ..new("one")
    };
    not_found(store.create_artifact(elsewhere, T0).await.map(drop));
}
