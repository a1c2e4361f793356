//! What is around every page: head, navigation, title, and the page of an error.

use maud::{DOCTYPE, Markup, html};

use super::icons;
use super::visitor::Visitor;
use super::words::Language;
use crate::error::{ApiError, Code};

/// Which entry of the navigation is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// Queues and items.
    Launch,
    /// Projects, runs, jobs.
    Projects,
    /// Keys.
    Keys,
}

/// How a page keeps itself fresh.
#[derive(Debug, Clone, Default)]
pub(super) struct Live {
    /// Look again after this many seconds.
    pub(super) seconds: Option<u32>,
    /// Look again when this event stream tells of something.
    pub(super) events: Option<String>,
}

/// A page.
pub(super) struct Frame<'a> {
    /// Who looks at it.
    pub(super) visitor: &'a Visitor,
    /// The marked entry.
    pub(super) section: Section,
    /// The browser's title.
    pub(super) title: &'a str,
    /// Address and label of what the page lies in.
    pub(super) crumbs: Vec<(String, String)>,
    /// How it keeps itself fresh.
    pub(super) live: Live,
}

/// Event kinds that can change a page.
const KINDS: &str = "pushed leased acked started running finished failed crashed revived killed requeued moved warning \
                     warning-cleared stop-requested lost found deleted agent-registered agent-status queue-updated \
                     reset";

impl Frame<'_> {
    /// The whole document.
    pub(super) fn page(&self, body: &Markup) -> Markup {
        let language = self.visitor.language;
        let user = &self.visitor.principal.user;
        let current = |section: Section| (self.section == section).then_some("page");
        let refresh = self.live.seconds.map(|seconds| seconds.to_string());
        let kinds = self.live.events.as_ref().map(|_| KINDS);
        let content = html! {
            a class="skip" href="#main" { "Skip to content" }
            div class="shell" {
                header class="side" {
                    a class="home" href="/launch" { (icons::mark()) span { "Slipway" } }
                    nav aria-label="Main" {
                        a href="/launch" aria-current=[current(Section::Launch)] { (icons::launch()) span { "Launch" } }
                        a href={ "/" (user.default_entity) } aria-current=[current(Section::Projects)] {
                            (icons::projects()) span { (language.word("Projects")) }
                        }
                        a href="/authorize" aria-current=[current(Section::Keys)] {
                            (icons::key()) span { (language.word("API key")) }
                        }
                    }
                    div class="user" {
                        b { (user.username) }
                        form method="post" action="/logout" {
                            button class="link" type="submit" { (language.word("Sign out")) }
                        }
                    }
                }
                main id="main" data-refresh=[refresh] data-events=[self.live.events.as_deref()] data-kinds=[kinds] {
                    @if !self.crumbs.is_empty() {
                        nav class="crumbs" aria-label="Breadcrumb" {
                            @for (address, label) in &self.crumbs { a href=(address) { (label) } }
                        }
                    }
                    (body)
                }
            }
        };
        document(self.title, language, &content)
    }
}

/// A document around a body.
pub(super) fn document(title: &str, language: Language, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(language.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Slipway" }
                link rel="stylesheet" href="/assets/app.css";
                script src="/assets/app.js" defer {}
            }
            body class="no-script" { (body) }
        }
    }
}

/// The page of an error: what went wrong and what to do next.
pub(super) fn error(error: &ApiError, language: Language) -> Markup {
    let title = match error.code {
        Code::NotFound => "Not found",
        Code::Forbidden => "Not allowed",
        Code::Unauthenticated => "Sign in first",
        Code::Unavailable | Code::RateLimited => "Try again in a moment",
        Code::Internal => "Something went wrong",
        Code::BadUserInput | Code::Conflict | Code::TooLarge => "This did not work",
    };
    let body = html! {
        div class="gate" {
            main class="card" {
                a class="home" href="/launch" { (icons::mark()) "Slipway" }
                h1 { (title) }
                p { (sentence(&error.message)) }
                @if let Some(hint) = &error.hint { p { (sentence(hint)) } }
                a class="button" href="/launch" { "Go to Launch" }
            }
        }
    };
    document(title, language, &body)
}

/// A text with its first letter in upper case and a full stop.
pub(super) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    let end = if text.ends_with(['.', '!', '?', '。']) {
        ""
    } else {
        "."
    };
    format!("{}{}{end}", first.unwrap_or_default(), characters.as_str())
}
