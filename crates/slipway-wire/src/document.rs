//! The GraphQL documents that the client sends.
//!
//! [`official`] holds the operations of the official client 0.31.0, with its names, variables and
//! selections: a server that admits only documents of that client accepts them. [`additions`] holds
//! those that need a server with our additions.

/// A document and the operation in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document {
    /// The operation's name.
    pub name: &'static str,
    /// The document's text.
    pub text: &'static str,
}

macro_rules! documents {
    ($($(#[$meta:meta])* $constant:ident = $name:literal, $($file:literal),+;)*) => {
        $(
            $(#[$meta])*
            pub const $constant: Document = Document {
                name: $name,
                text: concat!($(include_str!(concat!("../graphql/", $file, ".graphql"))),+),
            };
        )*

        /// Every document of this module.
        pub const ALL: &[Document] = &[$($constant),*];
    };
}

/// Documents of the official client 0.31.0.
pub mod official {
    use super::Document;

    documents! {
        /// Who the key belongs to.
        VIEWER = "Viewer", "official/Viewer";
        /// Which optional features the server has.
        SERVER_FEATURES = "ServerFeaturesQuery", "official/ServerFeaturesQuery";
        /// Makes a project if it is absent.
        CREATE_PROJECT = "CreateProject", "official/CreateProject";
        /// Makes or changes a queue.
        UPSERT_RUN_QUEUE = "UpsertRunQueue", "official/UpsertRunQueue";
        /// The queues of a project.
        PROJECT_RUN_QUEUES = "ProjectRunQueues", "official/ProjectRunQueues";
        /// One queue, without its configuration.
        GET_RUN_QUEUE_METADATA = "GetRunQueueMetadata", "official/GetRunQueueMetadata";
        /// A stored configuration.
        GET_DEFAULT_RESOURCE_CONFIG = "GetDefaultResourceConfig", "official/GetDefaultResourceConfig";
        /// The states of a queue's items: what the client asks of servers that cannot find one by its id.
        GET_RUN_QUEUE_ITEMS = "GetRunQueueItem", "official/GetRunQueueItemOfAll";
        /// An item's state.
        GET_RUN_QUEUE_ITEM = "GetRunQueueItem", "official/GetRunQueueItem";
        /// Removes an item from its queue.
        DELETE_FROM_RUN_QUEUE = "DeleteFromRunQueue", "official/DeleteFromRunQueue";
        /// Removes a queue.
        DELETE_RUN_QUEUE = "DeleteRunQueue", "official/DeleteRunQueue";
        /// Puts a run spec on a queue.
        PUSH = "pushToRunQueueByName", "official/pushToRunQueueByName";
        /// [`PUSH`] with template values.
        PUSH_WITH_VALUES = "pushToRunQueueByName", "official/pushToRunQueueByNameWithValues";
        /// [`PUSH`] with a priority.
        PUSH_WITH_PRIORITY = "pushToRunQueueByName", "official/pushToRunQueueByNameWithPriority";
        /// [`PUSH`] with a priority and template values.
        PUSH_WITH_PRIORITY_AND_VALUES = "pushToRunQueueByName", "official/pushToRunQueueByNameWithPriorityAndValues";
        /// Registers an agent.
        CREATE_LAUNCH_AGENT = "createLaunchAgent", "official/createLaunchAgent";
        /// An agent, whether it is asked to stop; also its heartbeat.
        LAUNCH_AGENT = "LaunchAgent", "official/LaunchAgent";
        /// Reports an agent's status.
        UPDATE_LAUNCH_AGENT = "updateLaunchAgent", "official/updateLaunchAgent";
        /// Takes one item.
        POP_FROM_RUN_QUEUE = "popFromRunQueue", "official/popFromRunQueue";
        /// Acknowledges an item and names its run.
        ACK_RUN_QUEUE_ITEM = "ackRunQueueItem", "official/ackRunQueueItem";
        /// Reports an item's failure.
        FAIL_RUN_QUEUE_ITEM = "failRunQueueItem", "official/failRunQueueItem";
        /// Reports what an item waits for.
        UPDATE_RUN_QUEUE_ITEM_WARNING = "updateRunQueueItemWarning", "official/updateRunQueueItemWarning";
        /// Whether a run was asked to stop.
        RUN_STOPPED_STATUS = "RunStoppedStatus", "official/RunStoppedStatus";
        /// A run's state.
        RUN_STATE = "RunState", "official/RunState";
        /// A sweep's state.
        GET_SWEEP_STATE = "GetSweepState", "official/GetSweepState";
        /// Asks a run to stop.
        STOP_RUN = "StopRun", "official/StopRun";
        /// Makes or changes a run.
        UPSERT_BUCKET = "UpsertBucket", "official/UpsertBucket";
        /// Asks where to upload a run's files.
        CREATE_RUN_FILES = "CreateRunFiles", "official/CreateRunFiles";
        /// Where files of a run are.
        RUN_FILES = "RunFiles", "official/RunFiles";
        /// One run.
        RUN = "Run", "official/Run";
        /// The runs of a project.
        RUNS = "Runs", "official/Runs";
        /// Removes a run.
        DELETE_RUN = "DeleteRun", "official/DeleteRun";
        /// Begins a version of an artifact.
        CREATE_ARTIFACT = "CreateArtifact", "official/CreateArtifact";
        /// Registers a manifest, and asks where to upload it.
        CREATE_ARTIFACT_MANIFEST = "CreateArtifactManifest", "official/CreateArtifactManifest";
        /// Asks where to upload an artifact's files.
        CREATE_ARTIFACT_FILES = "CreateArtifactFiles", "official/CreateArtifactFiles";
        /// Makes a version of an artifact visible.
        COMMIT_ARTIFACT = "CommitArtifact", "official/CommitArtifact";
        /// An artifact version by its id.
        ARTIFACT_BY_ID = "ArtifactByID", "official/ArtifactByID";
        /// An artifact version by `collection:alias`.
        ARTIFACT_MEMBERSHIP_BY_NAME = "ArtifactMembershipByName", "official/ArtifactMembershipByName";
        /// Where an artifact's manifest is.
        FETCH_ARTIFACT_MANIFEST = "FetchArtifactManifest", "official/FetchArtifactManifest";
        /// Where an artifact's files are.
        GET_ARTIFACT_MEMBERSHIP_FILE_URLS = "GetArtifactMembershipFileUrls", "official/GetArtifactMembershipFileUrls";
        /// The versions of a type's collections.
        ARTIFACT_OF_TYPE = "ArtifactOfType", "official/ArtifactOfType";
    }
}

/// Documents that need a server with our additions.
pub mod additions {
    use super::Document;

    documents! {
        /// Puts a run spec on a queue, once per idempotency key, or says what it would become.
        PUSH = "PushRunQueueItem", "additions/PushRunQueueItem";
        /// Puts many run specs on a queue, all or none.
        PUSH_MANY = "PushRunQueueItems", "additions/PushRunQueueItems";
        /// Registers an agent that renews its leases and records its starts.
        CREATE_LAUNCH_AGENT = "CreateManagedLaunchAgent", "additions/CreateManagedLaunchAgent";
        /// An agent with its configuration and the items that it holds.
        LAUNCH_AGENT = "LaunchAgentDetail", "additions/LaunchAgentDetail", "fragments/Agent", "fragments/Item";
        /// The agents of an entity.
        LAUNCH_AGENTS = "LaunchAgents", "additions/LaunchAgents", "fragments/Agent";
        /// Asks an agent to take nothing new, or takes that back.
        DRAIN_LAUNCH_AGENT = "DrainLaunchAgent", "additions/DrainLaunchAgent", "fragments/Agent";
        /// Takes items.
        POP = "PopRunQueueItems", "additions/PopRunQueueItems";
        /// Acknowledges items and names their runs.
        ACK = "AckRunQueueItems", "additions/AckRunQueueItems";
        /// Records that workloads are about to be created.
        START = "StartRunQueueItems", "additions/StartRunQueueItems";
        /// Reports that workloads run.
        MARK_RUNNING = "MarkRunQueueItemsRunning", "additions/MarkRunQueueItemsRunning";
        /// Renews leases.
        RENEW = "RenewRunQueueItems", "additions/RenewRunQueueItems";
        /// Reports outcomes.
        FINISH = "FinishRunQueueItems", "additions/FinishRunQueueItems";
        /// Hands an item back.
        RETURN = "ReturnRunQueueItem", "additions/ReturnRunQueueItem";
        /// Cancels or stops an item.
        CANCEL = "CancelRunQueueItem", "additions/CancelRunQueueItem", "fragments/Item";
        /// Submits an ended item's spec again.
        RETRY = "RetryRunQueueItem", "additions/RetryRunQueueItem", "fragments/Item";
        /// Moves an item to another queue or priority.
        MOVE = "MoveRunQueueItem", "additions/MoveRunQueueItem", "fragments/Item";
        /// Pauses or resumes a queue.
        PAUSE_RUN_QUEUE = "PauseRunQueue", "additions/PauseRunQueue", "fragments/Queue";
        /// Makes or changes a queue and its policy.
        UPSERT_RUN_QUEUE = "UpsertRunQueueWithPolicy", "additions/UpsertRunQueueWithPolicy", "fragments/Queue";
        /// One item with its specs.
        ITEM = "RunQueueItem", "additions/RunQueueItem", "fragments/Item";
        /// An item's record.
        ITEM_EVENTS = "RunQueueItemEvents", "additions/RunQueueItemEvents";
        /// A page of a queue's items.
        ITEMS = "RunQueueItems", "additions/RunQueueItems", "fragments/Item";
        /// The queues that the caller sees.
        RUN_QUEUES = "RunQueues", "additions/RunQueues", "fragments/Queue";
        /// One queue with its configuration and agents.
        RUN_QUEUE = "RunQueue", "additions/RunQueue", "fragments/Queue", "fragments/Agent";
        /// One run with its page and queue item.
        RUN = "RunWithItem", "additions/RunWithItem", "fragments/Item";
        /// A page of a run's console lines.
        RUN_CONSOLE_LOG = "RunConsoleLogPage", "additions/RunConsoleLogPage";
        /// Makes a user.
        CREATE_USER = "CreateUser", "additions/CreateUser";
        /// Makes a team.
        CREATE_TEAM = "CreateTeam", "additions/CreateTeam";
        /// Adds or removes a member of a team, or changes its role.
        SET_TEAM_MEMBER = "SetTeamMember", "additions/SetTeamMember";
        /// Makes an API key.
        CREATE_API_KEY = "CreateApiKey", "additions/CreateApiKey";
        /// Ends an API key.
        REVOKE_API_KEY = "RevokeApiKey", "additions/RevokeApiKey";
        /// The caller's API keys.
        API_KEYS = "ApiKeys", "additions/ApiKeys";
    }
}

#[cfg(test)]
mod tests {
    use super::{additions, official};

    #[test]
    fn every_document_defines_the_operation_that_it_names_and_every_fragment_once() {
        for document in official::ALL.iter().chain(additions::ALL) {
            let head = document.text.trim_start();
            let operation = head.strip_prefix("query ").or_else(|| head.strip_prefix("mutation "));
            let name: String = operation
                .unwrap_or_else(|| panic!("{} starts with neither query nor mutation", document.name))
                .chars()
                .take_while(|c| c.is_alphanumeric())
                .collect();
            assert_eq!(name, document.name);
            assert_eq!(
                document.text.matches('{').count(),
                document.text.matches('}').count(),
                "{name}"
            );
            for fragment in document.text.split("fragment ").skip(1) {
                let fragment = fragment.split(' ').next().expect("split yields at least one part");
                assert!(
                    document.text.contains(&format!("...{fragment}")),
                    "{name}: {fragment} is unused"
                );
                let definitions = document.text.matches(&format!("fragment {fragment} on")).count();
                assert_eq!(definitions, 1, "{name}: {fragment}");
            }
        }
    }
}
