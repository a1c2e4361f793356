//! The W&B API as data for a client: documents, inputs, answers, file_stream, artifact manifests.
