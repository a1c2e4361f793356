//! Lines that runs log, and output that agents capture.

use slipway_model::id::{ItemId, RunName};
use slipway_store::Error;
use slipway_store::blobs::{BlobOptions, Blobs};
use slipway_store::items::ReturnCause;
use slipway_store::run_data::{Line, Stream};
use slipway_store::runs::RunUpsert;

use crate::bed::{Bed, T0, USER};

crate::cases!(
    lines_are_read_back_by_number_and_from_the_end,
    a_line_written_again_is_replaced,
    a_gap_is_allowed_and_counts,
    streams_and_runs_do_not_mix,
    lines_need_a_run_and_a_sane_offset,
    awkward_text_is_kept,
    a_later_run_of_the_same_id_starts_empty,
    captured_output_is_appended_once_whatever_is_sent_again,
    captured_output_is_read_from_any_byte_in_bounded_pieces,
    the_output_of_a_deleted_item_follows,
    the_output_of_a_deleted_queues_items_follows,
    many_servers_append_the_same_output_once,
);

fn name(run: &str) -> RunName {
    RunName {
        entity: USER.to_owned(),
        project: "p".to_owned(),
        run: run.to_owned(),
    }
}

async fn run(bed: &Bed, id: &str) -> RunName {
    let upsert = RunUpsert {
        user: USER.to_owned(),
        starts: true,
        ..RunUpsert::default()
    };
    bed.store.upsert_run(name(id), upsert, T0).await.unwrap();
    name(id)
}

fn texts(lines: Vec<Line>) -> Vec<(i64, String)> {
    lines.into_iter().map(|line| (line.number, line.text)).collect()
}

fn numbered(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|number| (number, format!("line {number}"))).collect()
}

async fn lines_are_read_back_by_number_and_from_the_end(bed: &Bed) {
    let (store, run) = (&bed.store, run(bed, "r1").await);
    let lines = numbered(0..1000).into_iter().map(|(_, text)| text).collect();
    assert_eq!(store.write_lines(&run, Stream::Console, 0, lines).await.unwrap(), 1000);
    assert_eq!(
        store
            .write_lines(&run, Stream::Console, 1000, Vec::new())
            .await
            .unwrap(),
        1000
    );
    let read = async |from, limit| texts(store.lines(&run, Stream::Console, from, limit).await.unwrap());
    assert_eq!(read(0, 2000).await, numbered(0..1000));
    assert_eq!(read(998, 10).await, numbered(998..1000));
    assert_eq!(read(10, 3).await, numbered(10..13));
    assert_eq!(read(1000, 10).await, []);
    let last = texts(store.last_lines(&run, Stream::Console, 2).await.unwrap());
    assert_eq!(last, numbered(998..1000));
    assert_eq!(store.run(&run).await.unwrap().unwrap().log_lines, 1000);
}

async fn a_line_written_again_is_replaced(bed: &Bed) {
    let (store, run) = (&bed.store, run(bed, "r1").await);
    let write = async |offset, lines: &[&str]| {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        store.write_lines(&run, Stream::Console, offset, lines).await.unwrap()
    };
    assert_eq!(write(0, &["start", "10 %"]).await, 2);
    assert_eq!(write(1, &["20 %"]).await, 2);
    assert_eq!(write(1, &["100 %", "end"]).await, 3);
    assert_eq!(write(0, &["start"]).await, 3);
    let lines = texts(store.lines(&run, Stream::Console, 0, 10).await.unwrap());
    let expected = [(0, "start".to_owned()), (1, "100 %".to_owned()), (2, "end".to_owned())];
    assert_eq!(lines, expected);
}

async fn a_gap_is_allowed_and_counts(bed: &Bed) {
    let (store, run) = (&bed.store, run(bed, "r1").await);
    store
        .write_lines(&run, Stream::Console, 5, vec!["five".to_owned()])
        .await
        .unwrap();
    assert_eq!(store.line_count(&run, Stream::Console).await.unwrap(), 6);
    let lines = texts(store.lines(&run, Stream::Console, 0, 10).await.unwrap());
    assert_eq!(lines, [(5, "five".to_owned())]);
    assert_eq!(
        store
            .write_lines(&run, Stream::Console, 0, vec!["zero".to_owned()])
            .await
            .unwrap(),
        6
    );
}

async fn streams_and_runs_do_not_mix(bed: &Bed) {
    let (store, one, two) = (&bed.store, run(bed, "one").await, run(bed, "two").await);
    store
        .write_lines(&one, Stream::History, 0, vec!["{}".to_owned(); 3])
        .await
        .unwrap();
    store
        .write_lines(&one, Stream::Events, 0, vec!["{}".to_owned(); 2])
        .await
        .unwrap();
    store
        .write_lines(&two, Stream::Console, 0, vec!["x".to_owned()])
        .await
        .unwrap();
    let counts = async |name| {
        let run = store.run(name).await.unwrap().unwrap();
        (run.history_lines, run.event_lines, run.log_lines)
    };
    assert_eq!(counts(&one).await, (3, 2, 0));
    assert_eq!(counts(&two).await, (0, 0, 1));
    let page = store.runs(USER, "p", None, true, 10).await.unwrap();
    let counts: Vec<i64> = page.rows.iter().map(|run| run.history_lines).collect();
    assert_eq!(counts, [3, 0]);
    assert_eq!(store.line_count(&two, Stream::History).await.unwrap(), 0);
    store.delete_lines(&one).await.unwrap();
    assert_eq!(store.line_count(&one, Stream::History).await.unwrap(), 0);
    assert_eq!(store.line_count(&two, Stream::Console).await.unwrap(), 1);
}

async fn lines_need_a_run_and_a_sane_offset(bed: &Bed) {
    let (store, known) = (&bed.store, run(bed, "r1").await);
    let line = || vec!["x".to_owned()];
    let unknown = store.write_lines(&name("nobody"), Stream::Console, 0, line()).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
    assert_eq!(store.lines(&name("nobody"), Stream::Console, 0, 10).await.unwrap(), []);
    for offset in [-1, i64::MIN, i64::MAX, 1 << 60] {
        let refused = store.write_lines(&known, Stream::Console, offset, line()).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{offset}");
        let refused = store.append_output(ItemId::new(1, 1), 1, offset, vec![1]).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{offset}");
    }
}

async fn awkward_text_is_kept(bed: &Bed) {
    let (store, run) = (&bed.store, run(bed, "r1").await);
    let long = "x".repeat(1_000_000);
    let cases = [
        ("", ""),
        (
            "\u{1b}[31mred\u{1b}[0m \r\t\"quoted\" \\n",
            "\u{1b}[31mred\u{1b}[0m \r\t\"quoted\" \\n",
        ),
        ("日本語 🚢", "日本語 🚢"),
        ("[1, 2]", "[1, 2]"),
        ("null", "null"),
        ("nul \0 byte", "nul \u{FFFD} byte"),
        (&long, &long),
    ];
    let written = cases.iter().map(|(text, _)| (*text).to_owned()).collect();
    store.write_lines(&run, Stream::Console, 0, written).await.unwrap();
    let read = texts(store.lines(&run, Stream::Console, 0, 100).await.unwrap());
    for ((_, found), (_, expected)) in read.iter().zip(&cases) {
        assert!(found == expected, "{:?}", expected.chars().take(40).collect::<String>());
    }
    assert_eq!(read.len(), cases.len());
}

async fn a_later_run_of_the_same_id_starts_empty(bed: &Bed) {
    let (store, first) = (&bed.store, run(bed, "r1").await);
    store
        .write_lines(&first, Stream::History, 0, vec!["{}".to_owned(); 12_000])
        .await
        .unwrap();
    let number = store.run(&first).await.unwrap().unwrap().number;
    assert!(store.delete_run(&first).await.unwrap());
    let again = run(bed, "r1").await;
    let made = store.run(&again).await.unwrap().unwrap();
    assert_eq!(made.history_lines, 0);
    assert_ne!(made.number, number);
    store
        .write_lines(&again, Stream::History, 0, vec!["{}".to_owned()])
        .await
        .unwrap();

    assert_eq!(store.deleted_runs(10).await.unwrap(), [number]);
    store.forget_deleted_run(number).await.unwrap();
    assert_eq!(store.deleted_runs(10).await.unwrap(), Vec::<i64>::new());
    assert_eq!(store.line_count(&again, Stream::History).await.unwrap(), 1);
}

async fn captured_output_is_appended_once_whatever_is_sent_again(bed: &Bed) {
    let (store, item) = (&bed.store, ItemId::new(1, 7));
    let append = async |offset, text: &str| store.append_output(item, 1, offset, text.into()).await.unwrap();
    assert_eq!(append(0, "hello ").await, 6);
    assert_eq!(append(0, "hello ").await, 6, "sent again");
    assert_eq!(append(3, "lo world").await, 11, "overlapping");
    assert_eq!(append(20, "late").await, 11, "a gap stores nothing");
    assert_eq!(append(11, "").await, 11);
    assert_eq!(append(2, "l").await, 11, "in the middle");
    let chunks = store.output(item, 1, 0, 1000).await.unwrap();
    let whole: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.bytes.clone()).collect();
    assert_eq!(whole, b"hello world");
    assert_eq!(store.output_end(item, 1).await.unwrap(), 11);
    assert_eq!(
        store.output_end(item, 2).await.unwrap(),
        0,
        "attempts have outputs of their own"
    );
    store.append_output(item, 2, 0, vec![0xff, 0x00]).await.unwrap();
    assert_eq!(
        store.output(item, 2, 0, 10).await.unwrap()[0].bytes,
        [0xff, 0x00],
        "any bytes"
    );
}

async fn the_output_of_a_deleted_item_follows(bed: &Bed) {
    let store = &bed.store;
    let queue = bed.queue("q").await;
    let (deleted, kept) = (bed.push(queue).await, bed.push(queue).await);
    for (item, attempt) in [(deleted, 1), (deleted, 2), (kept, 1)] {
        store.append_output(item, attempt, 0, b"text".to_vec()).await.unwrap();
    }
    assert!(store.delete_item(deleted, USER, T0).await.unwrap());
    assert_eq!(store.deleted_items(10).await.unwrap(), [deleted]);
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&BlobOptions::Local {
        dir: directory.path().to_owned(),
    })
    .unwrap();
    assert_eq!(slipway_store::garbage::collect(store, &blobs, 10).await.unwrap(), 1);
    assert_eq!(slipway_store::garbage::collect(store, &blobs, 10).await.unwrap(), 0);
    let end = |item, attempt| store.output_end(item, attempt);
    assert_eq!(
        (
            end(deleted, 1).await.unwrap(),
            end(deleted, 2).await.unwrap(),
            end(kept, 1).await.unwrap()
        ),
        (0, 0, 4)
    );
}

async fn captured_output_is_read_from_any_byte_in_bounded_pieces(bed: &Bed) {
    let (store, item) = (&bed.store, ItemId::new(1, 7));
    for number in 0..10 {
        store
            .append_output(item, 1, number * 10, format!("{number:010}").into_bytes())
            .await
            .unwrap();
    }
    let read = async |from, limit| {
        let chunks = store.output(item, 1, from, limit).await.unwrap();
        let text: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.bytes.clone()).collect();
        (
            chunks.first().map(|chunk| chunk.offset),
            String::from_utf8(text).unwrap(),
        )
    };
    assert_eq!(read(0, 10).await, (Some(0), "0000000000".to_owned()));
    assert_eq!(read(0, 11).await, (Some(0), "00000000000000000001".to_owned()));
    assert_eq!(read(18, 1).await, (Some(18), "01".to_owned()));
    assert_eq!(read(95, 1000).await, (Some(95), "00009".to_owned()));
    assert_eq!(read(100, 1000).await, (None, String::new()));
    assert_eq!(read(5000, 1000).await, (None, String::new()));
    assert_eq!(read(0, usize::MAX).await.1.len(), 100);
}

async fn many_servers_append_the_same_output_once(bed: &Bed) {
    let item = ItemId::new(1, 7);
    let bytes: Vec<u8> = (0..200).collect();
    let appends = (0..8).map(|_| {
        let (store, bytes) = (bed.store.clone(), bytes.clone());
        tokio::spawn(async move {
            let mut end = 0;
            while end < 200 {
                let piece = bytes[end as usize..(end as usize + 10)].to_vec();
                end = store.append_output(item, 1, end, piece).await.unwrap();
            }
        })
    });
    for append in appends.collect::<Vec<_>>() {
        append.await.unwrap();
    }
    let chunks = bed.store.output(item, 1, 0, 1000).await.unwrap();
    let whole: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.bytes).collect();
    assert_eq!(whole, bytes);
}

async fn the_output_of_a_deleted_queues_items_follows(bed: &Bed) {
    let store = &bed.store;
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let handle = bed.started(agent, queue, T0).await;
    store.append_output(handle.item, 1, 0, b"text".to_vec()).await.unwrap();
    let returned = store.hand_back(Some(agent), handle, ReturnCause::Absent, T0);
    assert_eq!(returned.await.unwrap(), Ok(()));
    bed.push(queue).await;
    assert_eq!(store.delete_queue(queue, USER, T0).await.unwrap(), Some(2));
    assert_eq!(store.deleted_items(10).await.unwrap(), [handle.item]);
    store.forget_deleted_item(handle.item).await.unwrap();
    assert_eq!(store.output_end(handle.item, 1).await.unwrap(), 0);
}
