use super::*;
use crate::queue::Prioritization;

#[test]
fn priorities_are_numbers_and_words_of_which_the_lower_runs_first() {
    for (index, priority) in Priority::ALL.into_iter().enumerate() {
        let code = i64::try_from(index).unwrap();
        assert_eq!((priority.code(), Priority::from_code(code)), (code, Ok(priority)));
        assert_eq!(priority.to_string().to_uppercase().parse(), Ok(priority));
    }
    assert!(Priority::Critical < Priority::High && Priority::Medium < Priority::Low);
    assert_eq!(Priority::default(), Priority::Medium);
    for code in [-1, 4, i64::MIN] {
        let error = Priority::from_code(code).unwrap_err().to_string();
        assert!(
            error.contains(&format!("`{code}` is not one of 0 (critical)")),
            "{error}"
        );
    }
    assert!("urgent".parse::<Priority>().is_err());
}

#[test]
fn a_queue_without_prioritization_knows_one_priority() {
    for priority in Priority::ALL {
        assert_eq!(priority.within(Prioritization::V0), priority);
        assert_eq!(priority.within(Prioritization::Disabled), Priority::Medium);
    }
}
