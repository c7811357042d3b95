//! Pages for browsers. They are files in the program that know nothing but the API: whoever opens them logs in there, and sees and
//! does no more than its user may.

use axum::Router;
use axum::http::header;
use axum::routing::get;

/// The files: path, type, content.
const FILES: [(&str, &str, &str); 10] = [
    ("/", "text/html; charset=utf-8", include_str!("ui/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("ui/style.css")),
    ("/app.js", SCRIPT, include_str!("ui/app.js")),
    ("/api.js", SCRIPT, include_str!("ui/api.js")),
    ("/elements.js", SCRIPT, include_str!("ui/elements.js")),
    ("/lists.js", SCRIPT, include_str!("ui/lists.js")),
    ("/graph.js", SCRIPT, include_str!("ui/graph.js")),
    ("/definitions.js", SCRIPT, include_str!("ui/definitions.js")),
    ("/objects.js", SCRIPT, include_str!("ui/objects.js")),
    ("/admin.js", SCRIPT, include_str!("ui/admin.js")),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing but these files runs there, nothing but the API is asked, and no other site shows them in a frame.
const SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Adds the files to what a router serves.
pub(super) fn with_files<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    FILES.iter().fold(router, |router, &(path, kind, content)| {
        let headers = [
            (header::CONTENT_TYPE, kind),
            (header::CONTENT_SECURITY_POLICY, SECURITY_POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            // A newer broker has newer pages.
            (header::CACHE_CONTROL, "no-cache"),
        ];
        router.route(path, get(move || async move { (headers, content) }))
    })
}
