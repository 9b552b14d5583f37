//! As much of a browser as the pages need: cookies, redirects, links and forms.

use std::collections::HashMap;
use std::fmt;

use axum::http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use axum::http::{HeaderValue, StatusCode};
use reqwest::redirect::Policy;
use url::{Origin, Url, form_urlencoded};

use crate::Result;
use crate::world::{ADELE, MEGAN};

/// Two users in browsers of their own; the second declines.
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

/// A browser, on the page that it shows.
pub(crate) struct Browser {
    http: reqwest::Client,
    /// By origin. A real one tells hosts apart, and not ports.
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

    /// What is typed into the address bar.
    pub(crate) async fn open(&mut self, url: &str) -> Result<&Self> {
        let request = self.http.get(url);
        self.go(request).await
    }

    /// The link of this text.
    pub(crate) async fn follow(&mut self, text: &str) -> Result<&Self> {
        let mut links = self.html.split("<a ").skip(1);
        let link = links.find(|link| content(link, "</a>").contains(text));
        let link = link.and_then(|link| attribute(link, "href"));
        let url = self.url.join(&link.ok_or("no such link")?)?;
        let request = self.http.get(url);
        self.go(request).await
    }

    /// The button of this text, which sends the form that it is in.
    pub(crate) async fn press(&mut self, text: &str) -> Result<&Self> {
        let mut forms = self.html.split("<form ").skip(1);
        let form = forms.find_map(|form| {
            let form = content(form, "</form>");
            let mut buttons = form.split("<button").skip(1);
            Some((form, buttons.find(|button| button.contains(text))?))
        });
        let (form, button) = form.ok_or("no such button")?;
        let inputs = form.split("<input ").skip(1);
        let mut body = form_urlencoded::Serializer::new(String::new());
        for field in inputs.chain([button]) {
            if let (Some(name), Some(value)) = (attribute(field, "name"), attribute(field, "value"))
            {
                body.append_pair(&name, &value);
            }
        }
        let action = attribute(form, "action").ok_or("the form goes nowhere")?;
        let request = self.http.post(self.url.join(&action)?);
        let request = request
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.finish());
        self.go(request).await
    }

    /// Sends it, and follows where it is sent on to.
    async fn go(&mut self, request: reqwest::RequestBuilder) -> Result<&Self> {
        let mut request = request.build()?;
        loop {
            let url = request.url().clone();
            if let Some(cookie) = self.cookies.get(&url.origin()) {
                let cookie = HeaderValue::try_from(cookie)?;
                request.headers_mut().insert(COOKIE, cookie);
            }
            let answer = self.http.execute(request).await?;
            for cookie in answer.headers().get_all(SET_COOKIE) {
                let cookie = cookie.to_str()?.split(';').next().unwrap_or_default();
                self.cookies.insert(url.origin(), cookie.to_owned());
            }
            match answer.headers().get(LOCATION) {
                Some(location) => {
                    let url = url.join(location.to_str()?)?;
                    request = self.http.get(url).build()?;
                }
                None => {
                    (self.url, self.status) = (url, answer.status());
                    self.html = answer.text().await?;
                    return Ok(self);
                }
            }
        }
    }
}

fn content<'a>(html: &'a str, end: &str) -> &'a str {
    html.split_once(end).map_or(html, |(content, _)| content)
}

/// An attribute of the tag that this begins in.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (tag, _) = tag.split_once('>')?;
    let (_, value) = tag.split_once(&format!("{name}=\""))?;
    let (value, _) = value.split_once('"')?;
    Some(value.replace("&amp;", "&"))
}

/// The page's status, title and path.
impl fmt::Display for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = self.html.split_once("<title>");
        let title = title.map_or("", |(_, title)| content(title, "</title>"));
        let (status, path) = (self.status.as_u16(), self.url.path());
        write!(f, "{status}  {title:<24} {path}")
    }
}
