//! Results: in input order, with their gaps, while a batch runs.

use super::super::types::FRAMED;
use super::*;
use futures_util::StreamExt;

/// Frames with their lines.
fn frames(mut bytes: &[u8]) -> Vec<(Frame, String)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let frame: Frame = serde_json::from_slice(&bytes[1..end]).unwrap();
        let lines = &bytes[end + 1..end + 1 + frame.bytes];
        bytes = &bytes[end + 1 + frame.bytes..];
        frames.push((frame, String::from_utf8(lines.to_vec()).unwrap()));
    }
    frames
}

async fn framed(site: &Site, batch: &BatchView, query: &str) -> Response {
    let path = format!("/v1/batches/{}/results{query}", batch.id);
    let request = site.request(Method::GET, &path).header("accept", FRAMED);
    request.send().await.unwrap()
}

fn indexes(lines: &str) -> Vec<u64> {
    let index = |line: &str| serde_json::from_str::<Value>(line).unwrap()["index"].as_u64();
    lines.lines().map(|line| index(line).unwrap()).collect()
}

#[tokio::test]
async fn unfinished_results_come_with_their_gaps() {
    let site = site().await;
    let batch = site.submitted(prompts(6) + "no json\n").await;
    site.answer(&batch, [0, 2, 3]).await;
    let plain = site.get(&format!("/v1/batches/{}/results", batch.id)).await;
    assert_eq!(plain.headers()["content-type"], "application/x-ndjson");
    let plain = plain.text().await.unwrap();
    assert_eq!(indexes(&plain), [0, 2, 3, 6]);
    let all = framed(&site, &batch, "").await.bytes().await.unwrap();
    let all = frames(&all);
    assert_eq!(all.len(), 2);
    let (frame, lines) = &all[0];
    assert_eq!(*lines, plain);
    assert_eq!((frame.lines, frame.missing, frame.next), (4, 3, 7));
    assert_eq!(
        (&frame.failed[..], &frame.missing_lines[..]),
        (&[3][..], &[2, 5, 6][..])
    );
    assert!(all[1].0.end);
    for (query, expected) in [
        ("?errors=only", vec![6]),
        ("?errors=omit", vec![0, 2, 3]),
        ("?from=3", vec![3, 6]),
        ("?from=99", vec![]),
    ] {
        let path = format!("/v1/batches/{}/results{query}", batch.id);
        let lines = site.get(&path).await.text().await.unwrap();
        assert_eq!(indexes(&lines), expected, "{query}");
    }
    let path = format!("/v1/batches/{}/results?format=openai", batch.id);
    let lines = site.get(&path).await.text().await.unwrap();
    assert!(lines.starts_with("{\"id\":\"batch_req_"), "{lines}");
    let path = format!("/v1/batches/{}/results?format=csv", batch.id);
    assert_eq!(site.get(&path).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn results_of_many_pages_are_those_of_an_export() {
    let site = site().await;
    let batch = site.submitted(prompts(5_000)).await;
    site.answer(&batch, 0..5_000).await;
    let path = format!("/v1/batches/{}/results", batch.id);
    let streamed = site.get(&path).await.text().await.unwrap();
    let rendering = rbee_queue::jsonl::Rendering::default();
    let mut export = site.batches.export(&batch.id, rendering).await.unwrap();
    let mut expected = String::new();
    while let Some(page) = export.next_page().await.unwrap() {
        for line in page {
            expected.push_str(&line.rendered.unwrap().line);
            expected.push('\n');
        }
    }
    assert_eq!(streamed, expected);
}

#[tokio::test]
async fn followed_results_wait_at_the_first_gap_and_end_with_the_batch() {
    let site = site().await;
    let batch = site.submitted(prompts(4)).await;
    site.answer(&batch, [0, 2]).await;
    let response = framed(&site, &batch, "?follow=true").await;
    let mut stream = response.bytes_stream();
    let first = stream.next().await.unwrap().unwrap();
    let first = frames(&first);
    assert_eq!(indexes(&first[0].1), [0]);
    assert_eq!((first[0].0.missing, first[0].0.next), (0, 1));
    site.answer(&batch, [1]).await;
    let mut rest = Vec::new();
    rest.extend(stream.next().await.unwrap().unwrap());
    assert_eq!(indexes(&frames(&rest)[0].1), [1, 2]);
    site.answer(&batch, [3]).await;
    let mut rest = Vec::new();
    while let Some(piece) = stream.next().await {
        rest.extend(piece.unwrap());
    }
    let rest = frames(&rest);
    assert_eq!(indexes(&rest[0].1), [3]);
    assert!(rest.last().unwrap().0.end);
}

#[tokio::test]
async fn a_stream_that_is_cut_off_by_a_stop_does_not_look_whole() {
    let site = site().await;
    let batch = site.submitted(prompts(2)).await;
    site.answer(&batch, [0]).await;
    let response = framed(&site, &batch, "?follow=true").await;
    let mut stream = response.bytes_stream();
    stream.next().await.unwrap().unwrap();
    site.stop.cancel();
    let mut rest = Vec::new();
    let broken = loop {
        match stream.next().await {
            Some(Ok(piece)) => rest.extend(piece),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broken);
    assert!(frames(&rest).iter().all(|(frame, _)| !frame.end));
}

#[tokio::test]
async fn lines_of_a_followed_batch_show_the_numerics_pinned_meanwhile() {
    let site = site().await;
    let line = json!({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
                      "body": {"model": "m", "messages": [{"role": "user", "content": "x"}]}});
    let batch = site.submitted(format!("{line}\n")).await;
    let path = format!("/v1/batches/{}/results", batch.id);
    let following = tokio::spawn(site.get(&format!("{path}?follow=true")).await.text());
    site.answer(&batch, [0]).await;
    let followed = following.await.unwrap().unwrap();
    let exported = site.get(&path).await.text().await.unwrap();
    assert_eq!(followed, exported);
}
