//! Sentences in English and Korean from a message id and its arguments, through Fluent.
//!
//! Dashboard, command line and log all say what is made here. Arguments arrive as finished texts ([`number`]); names from outside are
//! plain text and never become syntax. A test holds both languages to the same messages.

pub mod josa;
pub mod number;

use crate::collector::{Query, RolloutRequest};
use crate::rollout::plan::Plan;
use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue};
use std::sync::LazyLock;
use unic_langid::LanguageIdentifier;

/// A language that sentences are made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lang {
    /// English.
    En,
    /// Korean.
    Ko,
}

impl Lang {
    /// The language of a tag such as `ko` or `ko-KR`; English when it is none of ours.
    pub fn parse(tag: &str) -> Self {
        if tag.starts_with("ko") { Self::Ko } else { Self::En }
    }
}

type Bundle = FluentBundle<FluentResource>;

static ENGLISH: LazyLock<Bundle> = LazyLock::new(|| bundle("en", include_str!("en.ftl")));
static KOREAN: LazyLock<Bundle> = LazyLock::new(|| bundle("ko", include_str!("ko.ftl")));

fn bundle(language: &str, source: &str) -> Bundle {
    let language: LanguageIdentifier = language.parse().expect("a language tag");
    let resource = FluentResource::try_new(source.to_owned()).expect("the messages parse, as a test holds");
    let mut bundle = Bundle::new_concurrent(vec![language]);
    // Isolation marks are for mixed directions; here they would only end up in titles and terminals.
    bundle.set_use_isolating(false);
    bundle.add_resource(resource).expect("message ids are unique, as a test holds");
    let josa = bundle.add_function("JOSA", |arguments, _| match arguments {
        [FluentValue::String(word), FluentValue::String(pair)] => FluentValue::from(josa::with(word, pair)),
        _ => FluentValue::Error,
    });
    josa.expect("the function is added once");
    bundle
}

/// The sentence `id` with its arguments. An unknown id gives itself back: a test holds that there are none.
pub fn say(lang: Lang, id: &str, arguments: &[(&str, &str)]) -> String {
    let bundle = match lang {
        Lang::En => &*ENGLISH,
        Lang::Ko => &*KOREAN,
    };
    let Some(pattern) = bundle.get_message(id).and_then(|message| message.value()) else { return id.to_owned() };
    let mut args = FluentArgs::new();
    for (name, value) in arguments {
        // Whole numbers choose plural forms; everything else is text.
        match value.parse::<u64>() {
            Ok(n) if *name == "n" => args.set(*name, n),
            _ => args.set(*name, value.to_string()),
        }
    }
    let mut errors = Vec::new();
    let text = bundle.format_pattern(pattern, Some(&args), &mut errors).into_owned();
    debug_assert!(errors.is_empty(), "{id}: {errors:?}");
    text
}

/// Names joined as a language does: "a, b and c".
pub fn list(lang: Lang, names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => say(lang, "list-last", &[("first", &first.join(", ")), ("last", last)]),
    }
}

/// The first of many names, and how many more there are: "a, b and 7 more".
pub fn some<S: AsRef<str>>(names: &[S]) -> String {
    /// Names that one sentence holds.
    const SOME: usize = 10;
    let first = names.iter().take(SOME).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SOME) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// What a rollout will do, before it is confirmed.
pub fn plan_sentence(lang: Lang, request: &RolloutRequest, plan: &Plan) -> String {
    let sizes: Vec<String> = plan.stages.iter().map(|stage| stage.len().to_string()).collect();
    let model = format!("{} {}", request.model, request.release);
    let who = match &request.query {
        Query::Incident(label) => say(lang, "plan-incident", &[("incident", label)]),
        _ => String::new(),
    };
    say(
        lang,
        "plan",
        &[
            ("n", &plan.devices().to_string()),
            ("who", &who),
            ("model", &model),
            ("stages", &sizes.join(" → ")),
            ("soak", &number::duration(lang, plan.policy.soak_ms)),
            ("limit", &plan.policy.failure_limit_percent.to_string()),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Message ids and the variables each one uses.
    fn messages(source: &str) -> BTreeMap<String, Vec<String>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut id = String::new();
        for line in source.lines().filter(|l| !l.starts_with('#')) {
            if let Some((name, _)) = line.split_once(" =").filter(|_| !line.starts_with([' ', '['])) {
                id = name.to_owned();
            }
            let used = line
                .split('$')
                .skip(1)
                .map(|v| v.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect());
            found.entry(id.clone()).or_default().extend(used);
        }
        found.values_mut().for_each(|v: &mut Vec<String>| {
            v.sort();
            v.dedup();
        });
        found
    }

    #[test]
    fn both_languages_say_the_same_with_the_same_arguments() {
        let (en, ko) = (messages(include_str!("en.ftl")), messages(include_str!("ko.ftl")));
        let ids = |m: &BTreeMap<String, Vec<String>>| m.keys().cloned().collect::<Vec<_>>();
        assert_eq!(ids(&en), ids(&ko));
        for (id, variables) in &ko {
            let unknown: Vec<_> = variables.iter().filter(|v| !en[id].contains(v)).collect();
            assert!(unknown.is_empty(), "{id} uses {unknown:?} in Korean only");
        }
    }

    #[test]
    fn plural_and_particles() {
        assert_eq!(say(Lang::En, "headline-problems", &[("n", "1")]), "1 problem needs a decision.");
        assert_eq!(say(Lang::En, "headline-problems", &[("n", "3")]), "3 problems need a decision.");
        assert_eq!(
            say(Lang::Ko, "moved-up", &[("reading", "temp_c"), ("amount", "6 °C")]),
            "temp_c 값이 약 6 °C 높아졌습니다"
        );
    }
}
