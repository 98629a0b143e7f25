//! The page: plain HTML that needs no script and nothing from elsewhere. Pure.

use std::fmt::Write as _;

use appliance::control::Phase;

use crate::appliance::{Gate, State};
use crate::problem::Problem;

/// Its style sheet.
pub const STYLE: &str = include_str!("page/style.css");

/// How pod-api is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pod {
    /// The appliance has none.
    Absent,
    /// It doesn't answer.
    Down,
    /// It does, and says its version and the Server's.
    Up {
        /// pod-api's.
        api: String,
        /// Prosody's.
        server: Option<String>,
    },
}

/// The page of an appliance that is so; `None`: it doesn't say how it is.
pub fn status(state: Option<&State>, pod: &Pod) -> String {
    let name = state.map_or("Appliance", |state| &state.name);
    let mut main = format!("<h1>{}</h1>\n", escaped(name));
    let _ = writeln!(main, "<p class=\"health {}\">{}</p>", mark(state, pod), health(state, pod));
    if let Some(gate) = state.and_then(|state| state.gate.as_ref()).filter(|gate| !gate.open) {
        main += &shut(gate);
    }
    main += "<p class=\"note\">This page comes without encryption. On a network that you don’t trust, \
             type no password here or at the API.</p>\n";
    main += &next(pod);
    if let Some(state) = state {
        main += &services(state);
    }
    main += &versions(state, pod);
    document(name, &main)
}

/// The page that says why there is no other.
pub fn problem(problem: &Problem) -> String {
    let status = problem.status();
    let title = status.canonical_reason().unwrap_or("No page");
    let main = format!(
        "<h1>{}</h1>\n<p>{}.</p>\n<p><a href=\"/\">How this appliance is</a></p>\n",
        escaped(title),
        escaped(&capitalised(&problem.to_string()))
    );
    document(title, &main)
}

fn document(title: &str, main: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n\
         <body>\n<main>\n{main}</main>\n</body>\n</html>\n",
        escaped(title)
    )
}

fn health(state: Option<&State>, pod: &Pod) -> &'static str {
    match (state.map(|state| state.phase), pod) {
        (None, _) => "The appliance doesn’t say how it is.",
        (Some(Phase::Initrd | Phase::Setup | Phase::Starting), _) => {
            "Some services are still starting."
        }
        (Some(Phase::Degraded), _) => "A service has failed and is being started again.",
        (Some(Phase::Ending), _) => "The appliance is shutting down.",
        (Some(Phase::Running), Pod::Down) => "All services run, but the API doesn’t answer.",
        (Some(Phase::Running), _) => "All services are running.",
    }
}

/// The class of [`health`]; its words say the same.
fn mark(state: Option<&State>, pod: &Pod) -> &'static str {
    match (state.map(|state| state.phase), pod) {
        (Some(Phase::Running), Pod::Up { .. } | Pod::Absent) => "good",
        _ => "poor",
    }
}

fn shut(gate: &Gate) -> String {
    let mut text = "<p>Nothing outside reaches it yet: the bootstrap gate is shut".to_owned();
    if let Some(step) = &gate.step {
        let _ = write!(text, ", at step “{}”", escaped(step));
    }
    if let Some(why) = &gate.why {
        let _ = write!(text, ": {}", escaped(why));
    }
    text + ".</p>\n"
}

fn next(pod: &Pod) -> String {
    let text = match pod {
        Pod::Absent => {
            "<p>Connect with any XMPP app: this is a chat server, and its port is 5222. Its accounts \
             and settings come from its configuration; it has no API.</p>\n"
        }
        Pod::Down => {
            "<p>The API is below <code>/api</code> and should be back in a moment: \
             <a href=\"/api/pod/version\">try it</a>.</p>\n"
        }
        Pod::Up { .. } => {
            "<p>The API is below <code>/api</code>: it answers with its \
             <a href=\"/api/pod/version\">version</a>. There the first account is made, with \
             <code>PUT /api/v1/init/first-account</code>.</p>\n\
             <p>Then connect with any XMPP app, as that account; the port is 5222.</p>\n"
        }
    };
    format!("<h2>Where to go next</h2>\n{text}")
}

fn services(state: &State) -> String {
    let mut rows = String::new();
    for service in &state.services {
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            escaped(&service.name),
            escaped(&service.state)
        );
    }
    format!(
        "<h2 id=\"services\">Services</h2>\n<table aria-labelledby=\"services\">\n\
         <thead><tr><th scope=\"col\">Service</th><th scope=\"col\">State</th></tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n"
    )
}

fn versions(state: Option<&State>, pod: &Pod) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, version: &str| {
        let _ = writeln!(rows, "<dt>{name}</dt><dd>{}</dd>", escaped(version));
    };
    if let Some(state) = state {
        row("Appliance", &state.version);
    }
    if let Pod::Up { api, server } = pod {
        row("API", api);
        if let Some(server) = server {
            row("Server", server);
        }
    }
    let list = match rows.is_empty() {
        true => String::new(),
        false => format!("<h2>Versions</h2>\n<dl>\n{rows}</dl>\n"),
    };
    list + "<p>For programs: <a href=\"/api/v1/appliance\"><code>/api/v1/appliance</code></a></p>\n"
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>())
        + letters.as_str()
}

/// Text that is only text to a browser, between tags or in quotes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests;
