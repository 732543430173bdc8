//! Topic filters as the standard tells them, without a thought for speed: what filter, trie and
//! retained messages are compared with.

/// Whether a filter without `$share/` is well formed.
pub(crate) fn is_filter(filter: &str, levels_max: usize) -> bool {
    let levels: Vec<&str> = filter.split('/').collect();
    let is_last = |at: usize| at + 1 == levels.len();
    !filter.is_empty()
        && !filter.contains('\0')
        && levels.len() <= levels_max
        && levels.iter().enumerate().all(|(at, level)| match *level {
            "+" => true,
            "#" => is_last(at),
            other => !other.contains(['+', '#']),
        })
}

/// Share name and filter, if the text is a shared subscription in its form.
pub(crate) fn split_share(text: &str) -> Option<(&str, &str)> {
    let mut parts = text.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("$share"), Some(share), Some(filter)) => Some((share, filter)),
        _ => None,
    }
}

/// Whether a text is a filter, shared or not.
pub(crate) fn is_subscription(text: &str, levels_max: usize) -> bool {
    match split_share(text) {
        Some((share, filter)) => {
            !share.is_empty() && !share.contains(['+', '#', '\0']) && is_filter(filter, levels_max)
        }
        // `$share` alone is a topic like any other; with a slash it is half a shared subscription.
        None => !text.starts_with("$share/") && is_filter(text, levels_max),
    }
}

/// Whether a well formed filter matches a topic name.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    let is_hidden = topic[0].starts_with('$') && (filter[0] == "+" || filter[0] == "#");
    !is_hidden && level_by_level(&filter, &topic)
}

fn level_by_level(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        ([], _) | (_, []) => false,
        (["+", filter @ ..], [_, topic @ ..]) => level_by_level(filter, topic),
        ([level, filter @ ..], [name, topic @ ..]) => {
            level == name && level_by_level(filter, topic)
        }
    }
}
