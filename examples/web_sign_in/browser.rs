//! A minimal browser with cookies, redirects, links and forms.

use std::collections::HashMap;
use std::fmt;

use axum::http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use axum::http::{HeaderValue, StatusCode};
use reqwest::redirect::Policy;
use url::{Origin, Url, form_urlencoded};

use crate::Result;
use crate::services::{ADELE, MEGAN};

/// Visits the app as two users with separate browsers. The second user declines the consent.
pub(crate) async fn walk(url: &str) -> Result<()> {
    let mut adele = Browser::new()?;
    println!("{}", adele.open(url).await?);
    println!("{}", adele.follow("Sign in").await?);
    println!("{}", adele.press(ADELE).await?);
    println!("{}", adele.press("Accept").await?);
    println!("{}", adele.open(url).await?);
    println!("{}", adele.follow("Your file").await?);
    println!("{}", adele.press("Sign out").await?);

    let mut megan = Browser::new()?;
    println!("{}", megan.open(&format!("{url}/file")).await?);
    println!("{}", megan.press(MEGAN).await?);
    println!("{}", megan.press("Cancel").await?);
    Ok(())
}

/// A browser and the current page.
pub(crate) struct Browser {
    http: reqwest::Client,
    /// The cookies by origin. A real browser separates cookies by host and not by port.
    pub(crate) cookies: HashMap<Origin, String>,
    pub(crate) url: Url,
    pub(crate) status: StatusCode,
    pub(crate) html: String,
}

impl Browser {
    pub(crate) fn new() -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy();
        Ok(Self {
            http: http.redirect(Policy::none()).build()?,
            cookies: HashMap::new(),
            url: Url::parse("about:blank")?,
            status: StatusCode::OK,
            html: String::new(),
        })
    }

    /// Opens the URL, as from the address bar.
    pub(crate) async fn open(&mut self, url: &str) -> Result<&Self> {
        let request = self.http.get(url);
        self.load(request).await
    }

    /// Follows the link with the text.
    pub(crate) async fn follow(&mut self, text: &str) -> Result<&Self> {
        let mut links = self.html.split("<a ").skip(1);
        let link = links.find(|link| content(link, "</a>").contains(text));
        let link = link.and_then(|link| attribute(link, "href"));
        let url = self.url.join(&link.ok_or("no link has this text")?)?;
        let request = self.http.get(url);
        self.load(request).await
    }

    /// Presses the button with the text, which submits the button's form.
    pub(crate) async fn press(&mut self, text: &str) -> Result<&Self> {
        let mut forms = self.html.split("<form ").skip(1);
        let form = forms.find_map(|form| {
            let form = content(form, "</form>");
            let mut buttons = form.split("<button").skip(1);
            Some((form, buttons.find(|button| button.contains(text))?))
        });
        let (form, button) = form.ok_or("no button has this text")?;
        let inputs = form.split("<input ").skip(1);
        let mut body = form_urlencoded::Serializer::new(String::new());
        for field in inputs.chain([button]) {
            if let (Some(name), Some(value)) = (attribute(field, "name"), attribute(field, "value"))
            {
                body.append_pair(&name, &value);
            }
        }
        let action = attribute(form, "action").ok_or("the form has no action")?;
        let request = self.http.post(self.url.join(&action)?);
        let request = request
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.finish());
        self.load(request).await
    }

    /// Sends the request and follows redirects.
    async fn load(&mut self, request: reqwest::RequestBuilder) -> Result<&Self> {
        let mut request = request.build()?;
        loop {
            let url = request.url().clone();
            if let Some(cookie) = self.cookies.get(&url.origin()) {
                let cookie = HeaderValue::try_from(cookie)?;
                request.headers_mut().insert(COOKIE, cookie);
            }
            let response = self.http.execute(request).await?;
            for cookie in response.headers().get_all(SET_COOKIE) {
                let cookie = cookie.to_str()?.split(';').next().unwrap_or_default();
                self.cookies.insert(url.origin(), cookie.to_owned());
            }
            match response.headers().get(LOCATION) {
                Some(location) => {
                    let url = url.join(location.to_str()?)?;
                    request = self.http.get(url).build()?;
                }
                None => {
                    (self.url, self.status) = (url, response.status());
                    self.html = response.text().await?;
                    return Ok(self);
                }
            }
        }
    }
}

/// Returns the text before `end`.
fn content<'a>(html: &'a str, end: &str) -> &'a str {
    html.split_once(end).map_or(html, |(content, _)| content)
}

/// Returns an attribute of the tag at the start of the text.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (tag, _) = tag.split_once('>')?;
    let (_, value) = tag.split_once(&format!("{name}=\""))?;
    let (value, _) = value.split_once('"')?;
    Some(value.replace("&amp;", "&"))
}

/// Prints the page's status, title and path.
impl fmt::Display for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = self.html.split_once("<title>");
        let title = title.map_or("", |(_, title)| content(title, "</title>"));
        let (status, path) = (self.status.as_u16(), self.url.path());
        write!(f, "{status}  {title:<24} {path}")
    }
}
