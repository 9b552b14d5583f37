//! A minimal browser: cookies, redirects and forms.

use std::collections::HashMap;

use http::HeaderValue;
use http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use url::Url;

use super::Server;

/// A user who goes from page to page, as far as the client's own.
pub struct Browser<'a> {
    http: reqwest::Client,
    cookies: HashMap<String, String>,
    client: &'a str,
    pub at: Url,
    pub html: String,
}

impl<'a> Browser<'a> {
    /// `client` is where it stops: nobody is there.
    pub async fn open(server: &Server, page: &str, client: &'a str) -> Self {
        let http = server.builder().redirect(reqwest::redirect::Policy::none());
        let mut browser = Self {
            http: http.build().unwrap(),
            cookies: HashMap::new(),
            client,
            at: Url::parse(page).unwrap(),
            html: String::new(),
        };
        let request = browser.http.get(page);
        browser.go(request).await;
        browser
    }

    /// Sends the page's form, which asks for nothing else.
    pub async fn submit(&mut self, prompt: &str, login: &str) {
        let (_, action) = self.html.split_once("action=\"").unwrap();
        let action = self.at.join(&action[..action.find('"').unwrap()]).unwrap();
        let request = self.http.post(action);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.body(format!("prompt={prompt}&login={login}&password=any"));
        self.go(request).await;
    }

    pub async fn cancel(&mut self) {
        let request = self.http.get(format!("{}/abort", self.at));
        self.go(request).await;
    }

    async fn go(&mut self, request: reqwest::RequestBuilder) {
        let mut request = request.build().unwrap();
        loop {
            self.at = request.url().clone();
            if self.at.as_str().starts_with(self.client) {
                return;
            }
            let cookies = self.cookies.iter();
            let cookies = cookies.map(|(name, value)| format!("{name}={value}"));
            let cookies = cookies.collect::<Vec<_>>().join("; ");
            let cookies = HeaderValue::try_from(cookies).unwrap();
            request.headers_mut().insert(COOKIE, cookies);
            let answer = self.http.execute(request).await.unwrap();
            for cookie in answer.headers().get_all(SET_COOKIE) {
                let cookie = cookie.to_str().unwrap();
                let (name, value) = cookie.split_once('=').unwrap();
                let (value, _) = value.split_once(';').unwrap();
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
            let Some(location) = answer.headers().get(LOCATION) else {
                let status = answer.status();
                self.html = answer.text().await.unwrap();
                assert_eq!(status, 200, "{}", self.html);
                return;
            };
            let next = self.at.join(location.to_str().unwrap()).unwrap();
            request = self.http.get(next).build().unwrap();
        }
    }
}
