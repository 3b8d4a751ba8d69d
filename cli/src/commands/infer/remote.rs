//! One prompt, answered by a server's nodes.

use std::io::Write;

use anyhow::anyhow;
use rbee_scheduler::http::types::{JobView, TextPiece, event};
use reqwest::Method;
use reqwest::header::ACCEPT;
use serde_json::{Map, Value, json};

use super::{InferArgs, prompt_text};
use crate::client::{Client, EventReader};
use crate::commands::{Context, submit};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome, stdout_failure};
use crate::table;

/// Streams the answer to stdout. Whoever leaves cancels it.
pub async fn run(context: &Context, args: &InferArgs) -> Outcome {
    let client = Client::open(context)?;
    let mut body = body_of(args)?;
    let work = async {
        let known = submit::own_models(context, &client, &args.model).await?;
        if let Some(known) = known.first() {
            body.insert("model_sha256".to_owned(), json!(known.sha256));
        }
        let request = client.request(Method::POST, &["v1", "infer"]).json(&body);
        let request = request.header(ACCEPT, "text/event-stream");
        let mut events = EventReader::new(client.send(request).await?);
        let mut text = Printed::default();
        let mut said = None;
        while let Some(raw) = events.next(&client).await? {
            match raw.name.as_str() {
                event::JOB => {
                    let job: JobView = serde_json::from_str(&raw.data)?;
                    if let Some(reason) = job.waiting.filter(|reason| said.as_ref() != Some(reason))
                    {
                        context.talk.note(&format!("waits: {reason}"));
                        said = Some(reason);
                    }
                }
                event::TEXT if !args.json => text.piece(&serde_json::from_str(&raw.data)?)?,
                event::RESET if !args.json => text.begin_anew(context),
                event::RESULT => {
                    let result = serde_json::from_str(&raw.data)?;
                    text.end()?;
                    return end(&result, args.json);
                }
                event::ERROR => {
                    let trouble: Value = serde_json::from_str(&raw.data)?;
                    let said = trouble["message"]
                        .as_str()
                        .unwrap_or("no answer")
                        .to_owned();
                    return Err(anyhow!(said).into());
                }
                _ => {}
            }
        }
        Err(anyhow!("{} ended before the answer was whole", client.address()).into())
    };
    context
        .interrupt
        .or("interrupted: the request is cancelled", work)
        .await
}

fn body_of(args: &InferArgs) -> Result<Map<String, Value>, Failure> {
    let prompt = prompt_text(&args.prompt)?;
    let mut body = args.sampling.defaults();
    match &args.system {
        Some(system) => {
            let messages = json!([
                {"role": "system", "content": system},
                {"role": "user", "content": prompt},
            ]);
            body.insert("messages".to_owned(), messages);
        }
        None => drop(body.insert("prompt".to_owned(), prompt.into())),
    }
    if args.raw {
        body.insert("raw".to_owned(), true.into());
    }
    if let Some(seed) = args.sampling.seed {
        body.insert("seed".to_owned(), seed.into());
    }
    if let Some(node) = &args.node {
        body.insert("node".to_owned(), node.clone().into());
    }
    body.insert("model".to_owned(), args.model.clone().into());
    body.insert("stream".to_owned(), true.into());
    Ok(body)
}

fn end(result: &Value, as_json: bool) -> Outcome {
    let error = &result["error"];
    if !error.is_null() {
        let word = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        return Err(anyhow!("{}: {}", word("code"), word("message")).into());
    }
    if as_json {
        table::print([result.to_string()])?;
    }
    Ok(ExitCode::Success)
}

/// What stands on stdout.
#[derive(Default)]
struct Printed {
    in_line: bool,
}

impl Printed {
    fn piece(&mut self, piece: &TextPiece) -> Result<(), Failure> {
        if piece.choice == 0 && !piece.text.is_empty() {
            write(&piece.text)?;
            self.in_line = !piece.text.ends_with('\n');
        }
        Ok(())
    }

    fn begin_anew(&mut self, context: &Context) {
        context
            .talk
            .warn("another node answers otherwise: the text begins anew");
    }

    fn end(&self) -> Result<(), Failure> {
        match self.in_line {
            true => write("\n"),
            false => Ok(()),
        }
    }
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(stdout_failure)
}
