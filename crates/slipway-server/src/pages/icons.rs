//! Icons as inline SVG. Each state has its own silhouette, so that it reads without colour.

use maud::{Markup, PreEscaped, html};
use slipway_model::item::ItemState;
use slipway_model::run::RunState;

use super::words::Language;

/// A state as pages show it: icon, word and tint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Waits, and no agent serves the queue.
    Idle,
    /// Waits.
    Queued,
    /// Is being started.
    Pending,
    /// Runs.
    Running,
    /// Ended well.
    Finished,
    /// Ended badly.
    Failed,
    /// Not heard from.
    Crashed,
    /// Stopped on request.
    Killed,
    /// About to be preempted, or preempted.
    Preempted,
}

impl Status {
    /// The status of an item. `queue_active`: whether an agent serves its queue.
    #[must_use]
    pub(crate) const fn of_item(state: ItemState, queue_active: bool) -> Self {
        match state {
            ItemState::Pending if queue_active => Self::Queued,
            ItemState::Pending => Self::Idle,
            ItemState::Leased | ItemState::Claimed => Self::Pending,
            ItemState::Running => Self::Running,
            ItemState::Finished => Self::Finished,
            ItemState::Failed => Self::Failed,
            ItemState::Crashed => Self::Crashed,
            ItemState::Killed => Self::Killed,
        }
    }

    /// The status of a run.
    #[must_use]
    pub(crate) const fn of_run(state: RunState) -> Self {
        match state {
            RunState::Pending => Self::Pending,
            RunState::Running => Self::Running,
            RunState::Finished => Self::Finished,
            RunState::Failed => Self::Failed,
            RunState::Crashed => Self::Crashed,
            RunState::Killed => Self::Killed,
            RunState::Preempting | RunState::Preempted => Self::Preempted,
        }
    }

    /// The English word.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Queued => "Queued",
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Finished => "Finished",
            Self::Failed => "Failed",
            Self::Crashed => "Crashed",
            Self::Killed => "Killed",
            Self::Preempted => "Preempted",
        }
    }

    const fn class(self) -> &'static str {
        match self {
            Self::Idle => "status idle",
            Self::Queued => "status queued",
            Self::Pending | Self::Preempted => "status pending",
            Self::Running => "status running",
            Self::Finished => "status finished",
            Self::Failed => "status failed",
            Self::Crashed => "status crashed",
            Self::Killed => "status killed",
        }
    }

    const fn icon(self) -> &'static str {
        match self {
            Self::Idle => {
                r#"<circle cx="8" cy="8" r="5.6" fill="none" stroke="currentColor" stroke-width="1.6" stroke-dasharray="2.6 1.8"/>"#
            }
            Self::Queued => {
                r#"<circle cx="8" cy="8" r="5.6" fill="none" stroke="currentColor" stroke-width="1.6"/><path d="M8 4.8V8l2.2 1.6" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"/>"#
            }
            Self::Pending => {
                r#"<circle cx="8" cy="8" r="5.6" fill="none" stroke="currentColor" stroke-width="1.6"/><path d="M8 4.2a3.8 3.8 0 0 1 0 7.6z" fill="currentColor"/>"#
            }
            Self::Running => {
                r#"<path d="M8 2.4A5.6 5.6 0 1 1 2.4 8" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round"/><path d="M6.6 5.6v4.8L10.5 8z" fill="currentColor"/>"#
            }
            Self::Finished => {
                r#"<circle cx="8" cy="8" r="6.4" fill="currentColor"/><path class="cut" d="M5.2 8.2l2 2 3.6-4" fill="none" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round"/>"#
            }
            Self::Failed => {
                r#"<path d="M5.4 1.7h5.2l3.7 3.7v5.2l-3.7 3.7H5.4l-3.7-3.7V5.4z" fill="currentColor"/><path class="cut" d="M5.9 5.9l4.2 4.2m0-4.2l-4.2 4.2" fill="none" stroke-width="1.7" stroke-linecap="round"/>"#
            }
            Self::Crashed => {
                r#"<path d="M8 1.1L14.9 8 8 14.9 1.1 8z" fill="currentColor"/><path class="cut-fill" d="M8.9 4.2L5.7 8.6h2l-.6 3.2 3.2-4.4h-2z"/>"#
            }
            Self::Killed => {
                r#"<rect x="2.3" y="2.3" width="11.4" height="11.4" rx="1.6" fill="none" stroke="currentColor" stroke-width="1.6"/><rect x="5.6" y="5.6" width="4.8" height="4.8" fill="currentColor"/>"#
            }
            Self::Preempted => {
                r#"<path d="M3 3.4v9.2M6 3.4v9.2" stroke="currentColor" stroke-width="1.8" stroke-linecap="round"/><path d="M9 4.6v6.8L14 8z" fill="currentColor"/>"#
            }
        }
    }

    /// Icon and word on a tint. `detail` follows the word, such as `for 41m`.
    #[must_use]
    pub(crate) fn badge(self, language: Language, detail: Option<&str>) -> Markup {
        html! {
            span class=(self.class()) {
                (svg(self.icon()))
                (language.word(self.word()))
                @if let Some(detail) = detail { " " (detail) }
            }
        }
    }
}

/// A triangle with an exclamation mark.
#[must_use]
pub(crate) fn warning() -> Markup {
    svg(
        r#"<path d="M8 1.6l6.8 12.2H1.2z" fill="currentColor"/><path class="cut" d="M8 6v3.6" stroke-width="1.7" stroke-linecap="round"/><circle class="cut-fill" cx="8" cy="11.7" r="1"/>"#,
    )
}

/// An active queue: a disc.
#[must_use]
pub(crate) fn active() -> Markup {
    svg(r#"<circle cx="8" cy="8" r="4.4" fill="currentColor"/>"#)
}

/// A queue that no agent serves: a dashed ring.
#[must_use]
pub(crate) fn inactive() -> Markup {
    svg(
        r#"<circle cx="8" cy="8" r="4.6" fill="none" stroke="currentColor" stroke-width="1.6" stroke-dasharray="2.4 1.6"/>"#,
    )
}

/// A paused queue: bars.
#[must_use]
pub(crate) fn paused() -> Markup {
    svg(r#"<path d="M5.6 4v8M10.4 4v8" stroke="currentColor" stroke-width="2.2" stroke-linecap="round"/>"#)
}

/// The product's mark: a ship on a slipway.
#[must_use]
pub(crate) fn mark() -> Markup {
    PreEscaped(
        r##"<svg class="mark" viewBox="0 0 28 28" aria-hidden="true"><rect width="28" height="28" rx="7" fill="#16202b"/><path d="M8.5 11.5l9.6-3.3 1.2 4.3-8 2.7-3.6.5z" fill="#f26b3a"/><path d="M6 20.6L22 15" stroke="#fff" stroke-width="2" stroke-linecap="round"/></svg>"##
            .to_owned(),
    )
}

/// Navigation: launch.
#[must_use]
pub(crate) fn launch() -> Markup {
    svg(
        r#"<path d="M2 13.4h12M3 9.6l9.2-3.2 1.4 1.3L4.6 11.2zM6 8.4L4.4 5.2l1.3-.4 2.8 2.6" fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round"/>"#,
    )
}

/// Navigation: projects.
#[must_use]
pub(crate) fn projects() -> Markup {
    svg(
        r#"<path d="M1.9 4.2c0-.7.5-1.2 1.2-1.2h3l1.5 1.7h5.3c.7 0 1.2.5 1.2 1.2v5.9c0 .7-.5 1.2-1.2 1.2H3.1c-.7 0-1.2-.5-1.2-1.2z" fill="none" stroke="currentColor" stroke-width="1.4" stroke-linejoin="round"/>"#,
    )
}

/// Navigation: API keys.
#[must_use]
pub(crate) fn key() -> Markup {
    svg(
        r#"<circle cx="5.2" cy="10.8" r="3" fill="none" stroke="currentColor" stroke-width="1.4"/><path d="M7.4 8.6L13 3m-1.7 1.7l1.8 1.8M9.2 6.8l1.4 1.4" fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round"/>"#,
    )
}

fn svg(content: &str) -> Markup {
    PreEscaped(format!(
        r#"<svg class="icon" viewBox="0 0 16 16" aria-hidden="true">{content}</svg>"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_own_silhouette() {
        let all = [
            Status::Idle,
            Status::Queued,
            Status::Pending,
            Status::Running,
            Status::Finished,
            Status::Failed,
            Status::Crashed,
            Status::Killed,
            Status::Preempted,
        ];
        for (index, status) in all.iter().enumerate() {
            for other in &all[..index] {
                assert_ne!(status.icon(), other.icon(), "{status:?} and {other:?}");
            }
        }
    }

    #[test]
    fn items_and_runs_bear_the_words_that_people_read() {
        for active in [true, false] {
            for state in ItemState::ALL {
                assert_eq!(Status::of_item(state, active).word(), state.label(active));
            }
        }
        for state in RunState::ALL {
            let word = Status::of_run(state).word().to_lowercase();
            assert!(state == RunState::Preempting || word == state.as_str(), "{word}");
        }
    }
}
