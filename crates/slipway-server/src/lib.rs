//! The server: GraphQL, file_stream, uploads, event streams, pages and authentication over the store.
