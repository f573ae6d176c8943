//! Style sheet, script and icon, embedded in the binary. Their names change with their content, so they are cached.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Path;
use sha2::{Digest, Sha256};

/// Paths of the assets, for templates.
pub(super) static ASSETS: LazyLock<Assets> = LazyLock::new(Assets::new);

/// All assets.
pub(super) struct Assets {
    pub(super) style: Asset,
    pub(super) script: Asset,
    pub(super) icon: Asset,
}

/// An embedded file.
pub(super) struct Asset {
    name: String,
    content_type: &'static str,
    content: &'static str,
}

impl Assets {
    fn new() -> Self {
        Self {
            style: Asset::new("style", "css", "text/css; charset=utf-8", include_str!("assets/style.css")),
            script: Asset::new(
                "console",
                "js",
                "text/javascript; charset=utf-8",
                include_str!("assets/console.js"),
            ),
            icon: Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")),
        }
    }
}

impl Asset {
    fn new(stem: &str, extension: &str, content_type: &'static str, content: &'static str) -> Self {
        let hash: [u8; 32] = Sha256::digest(content).into();
        let hash = hash.first_chunk().copied().map_or(0, u64::from_be_bytes);
        Self { name: format!("{stem}-{hash:016x}.{extension}"), content_type, content }
    }

    /// Where the asset is.
    pub(super) fn path(&self) -> String {
        format!("/assets/{}", self.name)
    }
}

/// Serves an asset. They hold nothing secret, and the page of the login needs them.
pub(super) async fn serve(name: Path<String>) -> HttpResponse {
    let Assets { style, script, icon } = &*ASSETS;
    match [style, script, icon].into_iter().find(|asset| asset.name == *name) {
        Some(asset) => HttpResponse::Ok()
            .insert_header((CACHE_CONTROL, "public, max-age=31536000, immutable"))
            .content_type(asset.content_type)
            .body(asset.content),
        None => HttpResponse::NotFound().content_type("text/plain").body("There is no such file.\n"),
    }
}
