//! The table of `loom weaver ps`, in the documents' columns with more behind them.

use wire::api::WeaverView;

use crate::printable::printable;

/// The documents' header, to the letter, and our columns.
const HEADER: &str = "ID                                    IMAGE                    \
STATUS     AGE     TTL     NAME              WHY";
/// Characters of an image that fit.
const IMAGE: usize = 20;

/// Returns the header and one line for each weaver.
pub(crate) fn table(weavers: &[WeaverView]) -> String {
    let rows = weavers.iter().map(row);
    // Nobody needs an empty column at the edge of the screen.
    let all_is_well = weavers.iter().all(|view| view.reason.is_none() && view.message.is_none());
    let header = if all_is_well { HEADER.trim_end_matches("WHY").trim_end() } else { HEADER };
    std::iter::once(header.to_owned()).chain(rows).map(|line| line + "\n").collect()
}

fn row(view: &WeaverView) -> String {
    let age = view.age_hours.map_or_else(|| "-".to_owned(), |hours| format!("{hours:.1}h"));
    let why = match (&view.reason, &view.message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (reason, message) => reason.clone().or(message.clone()).unwrap_or_default(),
    };
    let line = format!(
        "{:<38} {:<23} {:<10} {:<7} {:<7} {:<17} {}",
        printable(&view.id),
        shorten(&printable(&view.image)),
        view.status.to_string(),
        age,
        format!("{}h", view.lifetime_hours),
        printable(view.name.as_deref().unwrap_or("-")),
        printable(&why),
    );
    line.trim_end().to_owned()
}

fn shorten(image: &str) -> String {
    if image.chars().count() <= IMAGE {
        return image.to_owned();
    }
    image.chars().take(IMAGE - 3).chain("...".chars()).collect()
}

/// A weaver for tests.
#[cfg(test)]
pub(crate) fn sample() -> WeaverView {
    WeaverView {
        id: "W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c".into(),
        image: "ghcr.io/ghuntley/loom/weaver:latest".into(),
        status: weaver::Phase::Running,
        created_at: "2025-03-03T10:00:00Z".parse().unwrap(),
        lifetime_hours: 4,
        expires_at: "2025-03-03T14:00:00Z".parse().unwrap(),
        pod_name: "weaver-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c".into(),
        pod_phase: Some("Running".into()),
        pod_ip: None,
        age_hours: Some(1.5),
        remaining_hours: Some(2.5),
        name: None,
        reason: None,
        message: None,
        exit_code: None,
        org_id: "O-local".into(),
        owner: "U-local".into(),
        owner_name: "local".into(),
        repo: None,
        branch: None,
        command: Vec::new(),
        args: Vec::new(),
        workdir: None,
        tags: std::collections::BTreeMap::new(),
        resources: wire::api::Resources::default(),
        tty: true,
        root: false,
        keep_entrypoint: false,
        ports: Vec::new(),
        warnings: Vec::new(),
        attach_url: "ws://127.0.0.1/".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documents' sample, to the letter.
    const DOCUMENTS: [&str; 3] = [
        "ID                                    IMAGE                    STATUS     AGE     TTL",
        "W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c ghcr.io/ghuntley/...    Running    1.5h    4h",
        "W-018e2b3c-5e6f-8a9b-0c1d-2e3f4a5b6c7d ghcr.io/ghuntley/...    Pending    0.1h    24h",
    ];

    #[test]
    fn the_documents_sample() {
        let pending = WeaverView {
            id: "W-018e2b3c-5e6f-8a9b-0c1d-2e3f4a5b6c7d".into(),
            status: weaver::Phase::Pending,
            age_hours: Some(0.1),
            lifetime_hours: 24,
            ..sample()
        };
        let text = table(&[sample(), pending]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        for (line, documents) in lines.iter().zip(DOCUMENTS) {
            assert!(line.starts_with(documents), "{line}\n{documents}");
        }
        assert_eq!(lines[0][DOCUMENTS[0].len()..].trim(), "NAME");
    }

    #[test]
    fn a_reason_has_a_column() {
        let failed = WeaverView { reason: Some("OOMKilled".into()), ..sample() };
        let text = table(&[sample(), failed]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with(" WHY") && lines[2].ends_with(" OOMKilled"), "{text}");
    }

    #[test]
    fn abuse_escapes_in_the_table() {
        let nasty = "\u{1b}]52;c;eA==\u{7}\r\n\u{202e}";
        let view = WeaverView {
            image: nasty.into(),
            name: Some(nasty.into()),
            reason: Some(nasty.into()),
            message: Some(nasty.into()),
            age_hours: None,
            ..sample()
        };
        let text = table(&[view]);
        assert_eq!(text.lines().count(), 2);
        assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'));
        assert!(text.lines().nth(1).unwrap().contains("Running    -"));
    }

    #[test]
    fn short_images_stay_whole() {
        assert_eq!(shorten("loom.local/host"), "loom.local/host");
        assert_eq!(shorten("12345678901234567890"), "12345678901234567890");
        assert_eq!(shorten("123456789012345678901"), "12345678901234567...");
    }
}
