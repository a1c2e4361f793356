//! A server that is asked to end.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::bed::{Bed, basic, soon};

#[tokio::test]
async fn streams_end_with_a_word_and_a_request_under_way_is_answered() {
    let mut bed = Bed::start().await;
    let key = bed.user("ann").await;
    bed.queue(&key, "ann", "q").await;
    let mut stream = bed.events(&key, "/slipway/v1/events?entity=ann", None).await;

    let body = "{\"query\": \"{ viewer { username } }\"}";
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Length: {}\r\nExpect: \
         100-continue\r\n\r\n",
        basic(&key),
        body.len()
    );
    let mut under_way = TcpStream::connect(bed.address).await.unwrap();
    under_way.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body, so the request is under way.
    let mut answer = vec![0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    soon("a word to go on", under_way.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 100 Continue\r\n\r\n");

    bed.stop();
    let word = stream.next().await.unwrap();
    assert!(word.comment.contains("shutting down"), "{word:?}");
    assert_eq!(stream.next().await, None);
    assert!(
        TcpStream::connect(bed.address).await.is_err(),
        "nothing new is accepted"
    );
    under_way.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon("the answer", under_way.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.ends_with("{\"data\":{\"viewer\":{\"username\":\"ann\"}}}"),
        "{answer}"
    );
    bed.ended().await;
}

#[tokio::test]
async fn what_was_answered_before_the_end_is_there_after_it() {
    let mut bed = Bed::start().await;
    let key = bed.user("ann").await;
    let queue = bed.queue(&key, "ann", "q").await;
    bed.stop();
    bed.ended().await;
    let queues = bed.store.queues("ann", None).await.unwrap();
    assert_eq!(queues.iter().map(|q| q.id.to_string()).collect::<Vec<_>>(), [queue]);
}
