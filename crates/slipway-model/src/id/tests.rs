use proptest::prelude::*;

use super::*;

#[test]
fn ids_on_the_wire_are_fixed() {
    assert_eq!(QueueId::new(1, 2).to_string(), "UnVuUXVldWU6MToy");
    assert_eq!(ItemId::new(1, 2).to_string(), "UnVuUXVldWVJdGVtOjE6Mg");
    let handle = LeaseHandle {
        item: ItemId::new(1, 2),
        epoch: 3,
    };
    assert_eq!(handle.to_string(), "UnVuUXVldWVJdGVtOjE6Mjoz");
    let run = RunName {
        entity: "team".to_owned(),
        project: "proj".to_owned(),
        run: "abc".to_owned(),
    };
    assert_eq!(run.storage_id(), "UnVuOnYxOmFiYzpwcm9qOnRlYW0=");
    assert_eq!(RunName::from_storage_id(&run.storage_id()), Ok(run));
}

#[test]
fn an_item_id_is_no_handle_and_an_id_of_another_kind_is_refused() {
    let item = ItemId::new(4, 5);
    let reference: ItemRef = item.to_string().parse().unwrap();
    assert_eq!(
        (reference.item, reference.epoch, reference.handle()),
        (item, None, None)
    );
    assert!(item.to_string().parse::<LeaseHandle>().is_err());
    assert!(item.to_string().parse::<QueueId>().is_err());
    let handle = LeaseHandle { item, epoch: 6 };
    assert!(handle.to_string().parse::<ItemId>().is_err());
    let error = "nonsense".parse::<QueueId>().unwrap_err();
    assert_eq!(error.to_string(), "`nonsense` is not the id of a RunQueue");
}

#[test]
fn a_number_has_one_spelling() {
    let read = |plain: &str| URL_SAFE_NO_PAD.encode(plain).parse::<ItemRef>();
    assert!(read("RunQueueItem:3:77:2").is_ok());
    for plain in [
        "RunQueueItem:+3:77:2",
        "RunQueueItem:3:077:2",
        "RunQueueItem:3:77:-0",
        "RunQueueItem: 3:77",
        "RunQueueItem:3:",
    ] {
        assert!(read(plain).is_err(), "{plain}");
    }
}

proptest! {
    #[test]
    fn ids_round_trip_and_handles_are_path_safe(entity in 0..i64::MAX, number in 0..i64::MAX, epoch in 0..i64::MAX) {
        let handle = LeaseHandle { item: ItemId::new(entity, number), epoch };
        let text = handle.to_string();
        prop_assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        prop_assert_eq!(text.parse::<LeaseHandle>(), Ok(handle));
        let queue = QueueId::new(entity, number);
        prop_assert_eq!(queue.to_string().parse::<QueueId>(), Ok(queue));
        prop_assert_eq!(queue.to_string().trim_end_matches('=').parse::<QueueId>(), Ok(queue));
    }

    #[test]
    fn no_text_makes_reading_an_id_panic(text in ".{0,200}") {
        let _ = text.parse::<ItemRef>();
        let _ = text.parse::<QueueId>();
        let _ = RunName::from_storage_id(&text);
    }
}
