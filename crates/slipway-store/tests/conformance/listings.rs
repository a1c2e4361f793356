//! What is read for many at once is what is read for each.

use slipway_model::id::RunName;
use slipway_model::priority::Priority;
use slipway_store::items::{Item, ItemFilter};

use crate::bed::{Bed, T0, USER, new_item, run_of, with_priority};

crate::cases!(
    the_surroundings_of_a_page_are_those_of_its_items,
    agents_of_many_queues_are_those_of_each,
    runs_are_found_by_their_names,
);

async fn all(bed: &Bed) -> Vec<Item> {
    let page = bed.store.items(ItemFilter::default(), None, 100).await.unwrap();
    assert!(!page.more);
    page.rows
}

async fn the_surroundings_of_a_page_are_those_of_its_items(bed: &Bed) {
    assert_eq!(bed.store.surroundings(&[], T0).await.unwrap().queues.len(), 0);
    let [one, two, gone] = [bed.queue("one").await, bed.queue("two").await, bed.queue("gone").await];
    let agent = bed.agent("agent", &[one, two, gone]).await;
    bed.agent("helper", &[one]).await;
    for queue in [one, two, gone] {
        bed.started(agent, queue, T0).await;
    }
    bed.push_many(
        one,
        vec![
            with_priority(Priority::Low),
            new_item(),
            with_priority(Priority::Critical),
            new_item(),
        ],
        T0,
    )
    .await;
    bed.push(two).await;
    bed.store.delete_queue(gone, USER, T0).await.unwrap();

    let items = all(bed).await;
    assert_eq!(items.len(), 8);
    let around = bed.store.surroundings(&items, T0).await.unwrap();
    for item in &items {
        let queue = bed.store.queue_by_id(item.queue).await.unwrap();
        assert_eq!(around.queues.get(&item.queue), queue.as_ref());
        let serving = bed.store.queue_agents(item.queue, T0).await.unwrap();
        assert_eq!(around.serving.get(&item.queue).cloned().unwrap_or_default(), serving);
        let position = bed.store.position(item.id).await.unwrap();
        assert_eq!(around.positions.get(&item.id).copied(), position);
        let alone = bed.store.surroundings(std::slice::from_ref(item), T0).await.unwrap();
        assert_eq!(alone.positions.get(&item.id).copied(), position);
        if let Some(holder) = item.agent {
            let found = bed.store.agent(holder).await.unwrap();
            assert_eq!(around.holders.get(&holder), found.as_ref());
            assert_eq!(found.unwrap().queues, [one, two], "a deleted queue is not served");
        }
    }
    assert!(!around.queues.contains_key(&gone));
    assert_eq!(around.positions.len(), 5);
}

async fn agents_of_many_queues_are_those_of_each(bed: &Bed) {
    let queues = [bed.queue("one").await, bed.queue("two").await, bed.queue("alone").await];
    bed.agent("b", &queues[..2]).await;
    bed.agent("a", &queues[..1]).await;
    let found = bed.store.agents_of_queues(&queues, T0).await.unwrap();
    for queue in queues {
        let each = bed.store.queue_agents(queue, T0).await.unwrap();
        assert_eq!(found.get(&queue).cloned().unwrap_or_default(), each);
    }
    let names: Vec<&str> = found[&queues[0]].iter().map(|(agent, _)| agent.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(!found.contains_key(&queues[2]));
}

async fn runs_are_found_by_their_names(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(run_of(bed.started(agent, queue, T0).await.item));
    }
    assert!(bed.store.runs_named(Vec::new()).await.unwrap().is_empty());
    let absent = RunName {
        run: "absent\"'".to_owned(),
        ..names[0].clone()
    };
    let asked = [names.clone(), vec![absent]].concat();
    let mut found = bed.store.runs_named(asked).await.unwrap();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    names.sort();
    for (run, name) in found.iter().zip(&names) {
        assert_eq!(Some(run), bed.store.run(name).await.unwrap().as_ref());
    }
    assert_eq!(found.len(), names.len());
}
