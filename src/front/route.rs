//! Where a request goes. Pure.
//!
//! A path is passed on byte for byte, less `/api`, or refused: if each reader along the way
//! understood it by its own rules, one might be led past another. So nothing here decodes or mends.

use hyper::{Method, Uri};

use crate::limits::LONGEST_TARGET;
use crate::problem::{API_METHODS, DOING_METHOD, Problem, READING_METHODS, TAKING_METHOD};

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To pod-api, with this path and query.
    Api(String),
    /// [`crate::appliance`].
    Appliance,
    /// [`crate::operate`].
    Operation(Operation),
    /// The page.
    Page,
    /// Its style sheet.
    Style,
}

/// What only an admin may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Have a bundle installed.
    Upgrade,
    /// Learn why the last upgrade that failed did.
    LastFailure,
    /// Have the other slot's system tried.
    Rollback,
    /// End, and start anew.
    Reboot,
    /// End.
    PowerOff,
}

/// For whom a problem is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Programs: JSON.
    Programs,
    /// People: a page.
    People,
}

const APPLIANCE: &str = "/api/v1/appliance";
/// Below that, with the methods that each takes.
const OPERATIONS: [(&str, Operation, &str); 5] = [
    ("upgrade", Operation::Upgrade, TAKING_METHOD),
    ("last-failure", Operation::LastFailure, READING_METHODS),
    ("rollback", Operation::Rollback, DOING_METHOD),
    ("reboot", Operation::Reboot, DOING_METHOD),
    ("power-off", Operation::PowerOff, DOING_METHOD),
];

/// Who asks for this: below `/api`, programs do.
pub fn audience(target: &Uri) -> Audience {
    match target.path() == "/api" || target.path().starts_with("/api/") {
        true => Audience::Programs,
        false => Audience::People,
    }
}

/// Where a request with this method and target goes.
pub fn route(method: &Method, target: &Uri) -> Result<Route, Problem> {
    if !is_known(method) {
        return Err(Problem::Method(allowed(target)));
    }
    let text = target.path_and_query().map_or("", |text| text.as_str());
    if text.len() > LONGEST_TARGET {
        return Err(Problem::LongTarget);
    }
    // Of `OPTIONS *` and `CONNECT`, too.
    if !text.starts_with('/') {
        return Err(Problem::Path("it doesn't start with a slash"));
    }
    // Any browser writes other bytes as `%XX`.
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::Path("it has bytes that aren't printable ASCII"));
    }
    check(target.path())?;
    let route = match target.path() {
        "/" => Route::Page,
        "/style.css" => Route::Style,
        APPLIANCE => Route::Appliance,
        path if is_of_appliance(path) => {
            let (_, operation, _) = operation(path).ok_or(Problem::NotFound)?;
            Route::Operation(operation)
        }
        path if path.starts_with("/api/") => {
            return text
                .strip_prefix("/api")
                .map(str::to_owned)
                .map(Route::Api)
                .ok_or(Problem::NotFound);
        }
        _ => return Err(Problem::NotFound),
    };
    let allowed = allowed(target);
    match is_among(method, allowed) {
        true => Ok(route),
        false => Err(Problem::Method(allowed)),
    }
}

/// Neither a tunnel, nor a mirror, nor anything that nobody here knows.
fn is_known(method: &Method) -> bool {
    is_among(method, API_METHODS)
}

fn is_among(method: &Method, list: &str) -> bool {
    list.split(", ").any(|known| known == method.as_str())
}

/// The methods of what is at this path.
fn allowed(target: &Uri) -> &'static str {
    let path = target.path();
    if let Some((_, _, methods)) = operation(path) {
        return methods;
    }
    match audience(target) == Audience::Programs && path != APPLIANCE {
        true => API_METHODS,
        false => READING_METHODS,
    }
}

/// Nothing below that path is pod-api's.
fn is_of_appliance(path: &str) -> bool {
    path.strip_prefix(APPLIANCE).is_some_and(|rest| rest.starts_with('/'))
}

fn operation(path: &str) -> Option<(&'static str, Operation, &'static str)> {
    let name = path.strip_prefix(APPLIANCE)?.strip_prefix('/')?;
    OPERATIONS.into_iter().find(|(known, _, _)| *known == name)
}

/// Refuses a path that some reader could take for another.
fn check(path: &str) -> Result<(), Problem> {
    if path.contains('\\') {
        return Err(Problem::Path("it has a backslash"));
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    for (index, part) in parts.iter().enumerate() {
        // The last may be: `/x/` is a path of its own.
        if part.is_empty() && index + 1 < parts.len() {
            return Err(Problem::Path("it has two slashes in a row"));
        }
        // Some take what follows a semicolon for no part of the name.
        let name = decoded(part)?;
        if matches!(name.split(|byte| *byte == b';').next(), Some(b"." | b"..")) {
            return Err(Problem::Path("it has a part `.` or `..`"));
        }
    }
    Ok(())
}

/// What `%XX` in a part stands for; a slash or a control character mustn't.
fn decoded(part: &str) -> Result<Vec<u8>, Problem> {
    let mut bytes = part.bytes();
    let mut name = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => match (bytes.next().and_then(digit), bytes.next().and_then(digit)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(Problem::Path("it has a `%` without two hexadecimal digits")),
            },
            byte => byte,
        };
        if matches!(byte, b'/' | b'\\') || byte.is_ascii_control() {
            return Err(Problem::Path("it has a hidden slash or control character"));
        }
        name.push(byte);
    }
    Ok(name)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(method: &str, target: &str) -> Result<Route, Problem> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        route(&method, &target.parse::<Uri>().unwrap())
    }

    #[test]
    fn every_path_has_its_place() {
        let api = |path: &str| Ok(Route::Api(path.to_owned()));
        for (method, target, expected) in [
            ("GET", "/", Ok(Route::Page)),
            ("HEAD", "/?x=1", Ok(Route::Page)),
            ("GET", "/style.css", Ok(Route::Style)),
            ("GET", "/api/v1/appliance", Ok(Route::Appliance)),
            ("GET", "/api/v1/appliance?x", Ok(Route::Appliance)),
            ("GET", "/api/pod/version", api("/pod/version")),
            ("DELETE", "/api/", api("/")),
            ("GET", "/api/?q", api("/?q")),
            ("GET", "/api/v1/members/", api("/v1/members/")),
            (
                "GET",
                "/api/v1/members?q=../..//%2e&x[]=%zz",
                api("/v1/members?q=../..//%2e&x[]=%zz"),
            ),
            ("PUT", "/api/v1/members/a%40b.c/role", api("/v1/members/a%40b.c/role")),
            ("PUT", "/api/v1/members/a@b;c/..d/e..", api("/v1/members/a@b;c/..d/e..")),
            ("GET", "/api/%252e%252e/x", api("/%252e%252e/x")),
            ("GET", "/api/api/v1/appliance", api("/api/v1/appliance")),
            ("GET", "http://chat.example/api/pod/version", api("/pod/version")),
            ("GET", "http://chat.example", Ok(Route::Page)),
            ("GET", "/api", Err(Problem::NotFound)),
            ("GET", "/apiary", Err(Problem::NotFound)),
            ("GET", "/API/pod/version", Err(Problem::NotFound)),
            ("GET", "/%61pi/pod/version", Err(Problem::NotFound)),
            ("GET", "/index.html", Err(Problem::NotFound)),
            ("POST", "/", Err(Problem::Method(READING_METHODS))),
            ("DELETE", "/style.css", Err(Problem::Method(READING_METHODS))),
            ("PUT", "/api/v1/appliance", Err(Problem::Method(READING_METHODS))),
            ("TRACE", "/api/v1/appliance", Err(Problem::Method(READING_METHODS))),
            ("TRACE", "/api/x", Err(Problem::Method(API_METHODS))),
            ("BREW", "/", Err(Problem::Method(READING_METHODS))),
            ("get", "/", Err(Problem::Method(READING_METHODS))),
            ("CONNECT", "chat.example:443", Err(Problem::Method(READING_METHODS))),
            ("PUT", "/api/v1/appliance/upgrade", Ok(Route::Operation(Operation::Upgrade))),
            (
                "GET",
                "/api/v1/appliance/last-failure?x",
                Ok(Route::Operation(Operation::LastFailure)),
            ),
            (
                "HEAD",
                "/api/v1/appliance/last-failure",
                Ok(Route::Operation(Operation::LastFailure)),
            ),
            ("POST", "/api/v1/appliance/rollback", Ok(Route::Operation(Operation::Rollback))),
            ("POST", "/api/v1/appliance/reboot", Ok(Route::Operation(Operation::Reboot))),
            ("POST", "/api/v1/appliance/power-off", Ok(Route::Operation(Operation::PowerOff))),
            ("GET", "/api/v1/appliance/upgrade", Err(Problem::Method("PUT"))),
            ("HEAD", "/api/v1/appliance/upgrade", Err(Problem::Method("PUT"))),
            ("POST", "/api/v1/appliance/upgrade", Err(Problem::Method("PUT"))),
            ("TRACE", "/api/v1/appliance/upgrade", Err(Problem::Method("PUT"))),
            ("POST", "/api/v1/appliance/last-failure", Err(Problem::Method(READING_METHODS))),
            ("GET", "/api/v1/appliance/rollback", Err(Problem::Method("POST"))),
            ("DELETE", "/api/v1/appliance/reboot", Err(Problem::Method("POST"))),
            ("PUT", "/api/v1/appliance/power-off", Err(Problem::Method("POST"))),
            ("PUT", "/api/v1/appliance/upgrade/", Err(Problem::NotFound)),
            ("GET", "/api/v1/appliance/", Err(Problem::NotFound)),
            ("GET", "/api/v1/appliance/else", Err(Problem::NotFound)),
            ("GET", "/api/v1/appliances", api("/v1/appliances")),
        ] {
            assert_eq!(routed(method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn a_path_that_could_be_another_is_refused() {
        for path in [
            "//",
            "//api/x",
            "/api//x",
            "/api//",
            "/api/x//y",
            "/.",
            "/..",
            "/api/.",
            "/api/..",
            "/api/../",
            "/api/../../etc/passwd",
            "/api/./x",
            "/api/%2e%2e/x",
            "/api/%2E./x",
            "/api/.%2e",
            "/api/%2e",
            "/api/..;/x",
            "/api/..;a=b/x",
            "/api/%2e%2e%3b/x",
            "/api/..%2fx",
            "/api/x%2Fy",
            "/api/x%5cy",
            "/api/x\\y",
            "/api/..\\..",
            "/api/x%00",
            "/api/x%0d%0aHost:y",
            "/api/%7f",
            "/api/%",
            "/api/%2",
            "/api/%zz",
            "/api/%+1",
            "/api/x/%2",
            "/static/%2e%2e/x",
        ] {
            let result = routed("GET", path);
            assert!(matches!(result, Err(Problem::Path(_))), "{path}: {result:?}");
        }
        assert!(matches!(routed("OPTIONS", "*"), Err(Problem::Path(_))));
        let long = format!("/api/{}", "x".repeat(LONGEST_TARGET));
        assert_eq!(routed("GET", &long), Err(Problem::LongTarget));
    }

    /// Whatever goes through goes through unchanged, and no reader can climb out with it.
    #[test]
    fn nothing_climbs_out() {
        let pieces = [
            "/", ".", "..", "%2e", "%2f", "%5c", "\\", ";", "a", "%", "api", "?", "//", "%00",
            "%25", "@",
        ];
        let mut random = fastrand::Rng::with_seed(1);
        let mut draw = |below: usize| random.usize(..below);
        let mut passed = 0;
        for _ in 0..200_000 {
            let rest: String = (0..draw(8)).map(|_| pieces[draw(pieces.len())]).collect();
            let target = format!("/api/{rest}");
            let Ok(uri) = target.parse::<Uri>() else { continue };
            let Ok(Route::Api(text)) = route(&Method::GET, &uri) else { continue };
            passed += 1;
            assert_eq!(format!("/api{text}"), target);
            let path = text.split('?').next().unwrap().to_lowercase();
            let decoded = path.replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
            assert!(
                !decoded.split(['/', '\\']).any(|part| part == "." || part == ".."),
                "{target}"
            );
            assert!(!decoded.contains("//") && !decoded.contains('\\'), "{target}");
        }
        assert!(passed > 1000, "{passed}");
    }
}
