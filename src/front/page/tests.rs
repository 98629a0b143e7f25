use super::*;
use crate::appliance::Service;

fn state(phase: Phase) -> State {
    let service = Service { name: "prosody".into(), state: "ready".into() };
    State {
        name: "prose-pod".into(),
        version: "1.0.0".into(),
        uptime: 42,
        phase,
        gate: None,
        services: vec![service],
    }
}

fn up() -> Pod {
    Pod::Up { api: "1.2.3".into(), server: Some("13.0.2".into()) }
}

#[test]
fn health_is_said_in_words() {
    let pods = [Pod::Absent, Pod::Down, up()];
    for (phase, pod, words, class) in [
        (Some(Phase::Running), &pods[2], "All services are running", "good"),
        (Some(Phase::Running), &pods[0], "All services are running", "good"),
        (Some(Phase::Running), &pods[1], "the API doesn’t answer", "poor"),
        (Some(Phase::Starting), &pods[1], "still starting", "poor"),
        (Some(Phase::Degraded), &pods[2], "has failed", "poor"),
        (Some(Phase::Ending), &pods[2], "shutting down", "poor"),
        (None, &pods[2], "doesn’t say how it is", "poor"),
    ] {
        let state = phase.map(state);
        let page = status(state.as_ref(), pod);
        assert!(page.contains(words), "{words}: {page}");
        assert!(page.contains(&format!("class=\"health {class}\"")), "{words}: {page}");
    }
}

#[test]
fn the_page_says_where_to_go() {
    let page = status(Some(&state(Phase::Running)), &up());
    for part in [
        "<title>prose-pod</title>",
        "<dd>1.0.0</dd>",
        "<dd>1.2.3</dd>",
        "<dd>13.0.2</dd>",
        "<th scope=\"row\">prosody</th><td>ready</td>",
        "href=\"/api/pod/version\"",
        "href=\"/api/v1/appliance\"",
        "without encryption",
        "<html lang=\"en\">",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let alone = status(Some(&state(Phase::Running)), &Pod::Absent);
    assert!(alone.contains("it has no API") && !alone.contains("/api/pod"), "{alone}");
}

#[test]
fn a_shut_gate_is_shown_with_its_reason() {
    let mut state = state(Phase::Starting);
    for (step, why, words) in [
        (Some("3"), None, "gate is shut, at step “3”."),
        (Some("rotate"), Some("no <answer>"), "at step “rotate”: no &lt;answer&gt;."),
        (None, None, "gate is shut."),
    ] {
        let (step, why) = (step.map(str::to_owned), why.map(str::to_owned));
        state.gate = Some(Gate { open: false, step, why });
        let page = status(Some(&state), &up());
        assert!(page.contains(words), "{words}: {page}");
    }
    state.gate = Some(Gate { open: true, step: None, why: None });
    assert!(!status(Some(&state), &up()).contains("gate"));
}

/// The policy forbids styles and scripts within the page, and anything from elsewhere: none is there.
#[test]
fn nothing_said_becomes_markup() {
    let evil = "\"'><script>alert(1)</script><img src=x onerror=y>&amp;";
    let mut state = state(Phase::Running);
    state.name = evil.into();
    state.version = evil.into();
    state.services = vec![Service { name: evil.into(), state: evil.into() }];
    state.gate = Some(Gate { open: false, step: Some(evil.into()), why: Some(evil.into()) });
    let pod = Pod::Up { api: evil.into(), server: Some(evil.into()) };
    let pages = [status(Some(&state), &pod), problem(&Problem::NotFound)];
    for page in pages {
        for bad in ["<script", "<img", "<style", "style=\"", "http:", "https:", "\"'>"] {
            assert!(!page.contains(bad), "{bad}: {page}");
        }
        let tags = page.matches('<').count();
        assert_eq!(tags, page.matches('>').count(), "{page}");
    }
}
