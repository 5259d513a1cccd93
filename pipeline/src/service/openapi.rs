//! The `OpenAPI` document (3.1) of the API and the webhook, made of the types that handlers read and
//! write: the list that makes the router makes the document, too.

use axum::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::reply::Wrapped;

/// Gives a type's schema to a generator.
type Of = fn(&mut SchemaGenerator) -> Schema;

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What an answer carries.
#[derive(Clone, Copy)]
enum Content {
    Json(Of),
    Text(&'static str),
    Nothing,
    /// Server-sent events, each of which is of this type.
    Events(Of),
}

/// One request that is answered, in words for programs.
pub(super) struct Endpoint {
    /// Its path; `{id}` is a run's.
    pub(super) path: &'static str,
    method: Method,
    summary: &'static str,
    token: bool,
    headers: &'static [(&'static str, &'static str)],
    query: Option<Of>,
    body: Option<(Of, &'static [&'static str])>,
    answers: Vec<(u16, &'static str, Content)>,
}

impl Endpoint {
    fn new(method: Method, path: &'static str, summary: &'static str) -> Self {
        let endpoint = Self {
            path,
            method,
            summary,
            token: false,
            headers: &[],
            query: None,
            body: None,
            answers: Vec::new(),
        };
        let endpoint = endpoint.refuses(503, "The store is not available; ask again later.");
        match path.contains("{id}") {
            true => endpoint.refuses(404, "There is no such run."),
            false => endpoint,
        }
    }

    /// A request that changes nothing.
    pub(super) fn get(path: &'static str, summary: &'static str) -> Self {
        Self::new(Method::GET, path, summary)
    }

    /// A request that changes something.
    pub(super) fn post(path: &'static str, summary: &'static str) -> Self {
        Self::new(Method::POST, path, summary)
    }

    /// It needs the bearer token.
    pub(super) fn by_token(mut self) -> Self {
        self.token = true;
        self.refuses(401, "The bearer token is missing or wrong.")
    }

    /// It needs these headers: names and what they hold.
    pub(super) fn headers(mut self, names: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = names;
        self
    }

    /// It takes the fields of a type as query parameters.
    pub(super) fn query<T: JsonSchema>(mut self) -> Self {
        // Not by reference: its fields are what is wanted.
        self.query = Some(|generator| T::json_schema(generator));
        self.refuses(400, "The query is not understood.")
    }

    /// It takes this body, as one of these media types.
    pub(super) fn body<T: JsonSchema>(mut self, types: &'static [&'static str]) -> Self {
        self.body = Some((of::<T>, types));
        self.refuses(400, "The body is not understood.")
            .refuses(413, "The body is too large.")
            .refuses(415, "The body is of another media type.")
    }

    /// It answers so, in JSON.
    pub(super) fn json<T: JsonSchema>(mut self, status: u16, when: &'static str) -> Self {
        self.answers.push((status, when, Content::Json(of::<T>)));
        self
    }

    /// It answers so, in text of a media type.
    pub(super) fn text(mut self, kind: &'static str, when: &'static str) -> Self {
        self.answers.push((200, when, Content::Text(kind)));
        self
    }

    /// It answers with a status alone.
    pub(super) fn nothing(mut self, status: u16, when: &'static str) -> Self {
        self.answers.push((status, when, Content::Nothing));
        self
    }

    /// It answers by server-sent events of a type.
    pub(super) fn events<T: JsonSchema>(mut self, when: &'static str) -> Self {
        self.answers.push((200, when, Content::Events(of::<T>)));
        self
    }

    /// It refuses so.
    pub(super) fn refuses(self, status: u16, when: &'static str) -> Self {
        self.json::<Wrapped>(status, when)
    }

    fn operation(&self, generator: &mut SchemaGenerator) -> Value {
        let mut parameters = Vec::new();
        if self.path.contains("{id}") {
            let schema = json!({ "type": "string", "pattern": super::api::RUN_ID });
            parameters
                .push(json!({ "name": "id", "in": "path", "required": true, "schema": schema }));
        }
        for (name, about) in self.headers {
            parameters.push(json!({
                "name": name, "in": "header", "required": true, "description": about,
                "schema": { "type": "string" },
            }));
        }
        if let Some(query) = self.query {
            parameters.extend(fields(&query(generator)));
        }
        let mut answers = Map::new();
        for (status, when, content) in &self.answers {
            let content = match content {
                Content::Json(of) => json!({ "application/json": { "schema": of(generator) } }),
                Content::Nothing => json!({}),
                Content::Text(kind) => json!({ *kind: { "schema": { "type": "string" } } }),
                Content::Events(of) => json!({ "text/event-stream": { "schema": of(generator) } }),
            };
            let answer = json!({ "description": when, "content": content });
            answers.insert(status.to_string(), answer);
        }
        let mut operation = json!({
            "summary": self.summary, "operationId": self.name(), "responses": answers,
        });
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some((body, types)) = self.body {
            let schema = body(generator);
            let content: Map<String, Value> = types
                .iter()
                .map(|kind| ((*kind).to_owned(), json!({ "schema": schema })))
                .collect();
            operation["requestBody"] = json!({ "required": true, "content": content });
        }
        if self.token {
            operation["security"] = json!([{ "token": [] }]);
        }
        operation
    }

    /// A name for generated clients: `getRunsIdSteps`.
    fn name(&self) -> String {
        let mut name = self.method.as_str().to_lowercase();
        for word in self.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty())
        {
            name.extend(word.chars().take(1).map(|c| c.to_ascii_uppercase()));
            name.extend(word.chars().skip(1));
        }
        name
    }
}

/// The fields of a type as query parameters. One that may be absent is absent, not null.
fn fields(schema: &Schema) -> Vec<Value> {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = schema.get("properties").and_then(Value::as_object);
    let field = |(name, field): (&String, &Value)| {
        let mut field = field.clone();
        if let Some(kinds) = field["type"].as_array() {
            field["type"] = kinds.iter().find(|kind| *kind != "null").cloned().unwrap_or_default();
        }
        let either = field.get("anyOf").and_then(Value::as_array);
        let named = either.and_then(|all| all.iter().find(|one| one["type"] != "null")).cloned();
        let about = field["description"].take();
        let mut schema = named.unwrap_or(field);
        if let Some(schema) = schema.as_object_mut() {
            schema.retain(|key, _| key != "description" && key != "default");
        }
        json!({
            "name": name, "in": "query", "required": required.contains(&json!(name)),
            "description": about, "schema": schema,
        })
    };
    properties.into_iter().flatten().map(field).collect()
}

/// The document.
pub(super) fn document(api: &[Endpoint], webhook: &[Endpoint]) -> Value {
    let settings = SchemaSettings::draft2020_12();
    let settings =
        settings.with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    let elsewhere = json!([{ "url": "http://127.0.0.1:9010", "description": "`listen.webhook`" }]);
    let all = api.iter().map(|one| (one, None));
    for (one, servers) in all.chain(webhook.iter().map(|one| (one, Some(&elsewhere)))) {
        let mut operation = one.operation(&mut generator);
        if let Some(servers) = servers {
            operation["servers"] = servers.clone();
        }
        let path = paths.entry(one.path).or_insert_with(|| json!({}));
        path[one.method.as_str().to_lowercase()] = operation;
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Pitlane", "version": env!("CARGO_PKG_VERSION"),
            "description": "The service's API for operators, and the webhook.",
        },
        "servers": [{ "url": "http://127.0.0.1:9011", "description": "`listen.api`" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::{api, webhook};

    #[test]
    fn every_reference_leads_somewhere_and_every_request_is_there() {
        let document = super::super::openapi();
        let text = document.to_string();
        let mut found = 0;
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            found += 1;
        }
        assert!(found > 20, "{found}");
        let (api, webhook) = (api::endpoints(), webhook::endpoints());
        let all = api.iter().map(|(one, _)| one).chain(&webhook);
        let mut names = std::collections::BTreeSet::new();
        for one in all {
            let operation = &document["paths"][one.path][one.method.as_str().to_lowercase()];
            assert!(
                operation["responses"].as_object().is_some_and(|all| all.len() > 1),
                "{}",
                one.path
            );
            assert!(names.insert(one.name()), "{} is named twice", one.name());
            assert_eq!(operation["security"].is_array(), one.token, "{}", one.path);
        }
        let run = &document["components"]["schemas"]["Run"]["properties"];
        assert!(run["carKind"].is_object() && run["failedStep"].is_object(), "{run}");
        let filter = document["paths"]["/runs"]["get"]["parameters"].as_array().unwrap();
        let limit = filter.iter().find(|one| one["name"] == "limit").unwrap();
        assert_eq!(
            (&limit["required"], &limit["schema"]["type"]),
            (&false.into(), &"integer".into())
        );
    }
}
