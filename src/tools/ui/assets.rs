//! The files of the page, built from `src/ui` and compressed beforehand.

use std::io::Read;

/// A file of the page.
#[derive(Debug)]
pub(super) struct Asset {
    pub(super) path: &'static str,
    pub(super) kind: &'static str,
    /// Compressed with gzip.
    pub(super) gzip: &'static [u8],
}

/// All of them; the first one is the page.
pub(super) const ASSETS: [Asset; 5] = [
    Asset { path: "/", kind: "text/html; charset=utf-8", gzip: include_bytes!("../../ui/dist/index.html.gz") },
    Asset {
        path: "/page.js",
        kind: "text/javascript; charset=utf-8",
        gzip: include_bytes!("../../ui/dist/page.js.gz"),
    },
    Asset {
        path: "/layout.js",
        kind: "text/javascript; charset=utf-8",
        gzip: include_bytes!("../../ui/dist/layout.js.gz"),
    },
    Asset { path: "/page.css", kind: "text/css; charset=utf-8", gzip: include_bytes!("../../ui/dist/page.css.gz") },
    Asset { path: "/icon.svg", kind: "image/svg+xml", gzip: include_bytes!("../../ui/dist/icon.svg.gz") },
];

// === impl Asset ===

impl Asset {
    /// For a client that does not accept gzip.
    pub(super) fn plain(&self) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(self.gzip).read_to_end(&mut out)?;
        Ok(out)
    }
}
