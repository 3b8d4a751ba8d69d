use super::reader_tests::{options, read_all};
use super::*;
use crate::request::Request;
use proptest::prelude::*;

/// Lines that are nearly good: the places where parsers break.
fn nearly_json() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("1e400".to_owned()),
        Just("-1".to_owned()),
        Just("\"\\ud83d\"".to_owned()),
        Just("[[[]]]".to_owned()),
        Just("null".to_owned()),
        any::<f64>().prop_map(|number| number.to_string()),
        ".{0,20}".prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    let name = prop_oneof![
        proptest::sample::select(params::PARAMS.to_vec()).prop_map(str::to_owned),
        proptest::sample::select(vec![
            "prompt",
            "messages",
            "raw",
            "url",
            "body",
            "method",
            "custom_id",
            "id",
            "model",
            "tools",
            "metadata",
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,5}",
    ];
    proptest::collection::vec((name, value), 0..6).prop_map(|members| {
        let members: Vec<String> = members
            .into_iter()
            .map(|(name, value)| format!("\"{name}\": {value}"))
            .collect();
        format!("{{{}}}", members.join(", "))
    })
}

proptest! {
    #[test]
    fn any_bytes_get_one_verdict_a_line(
        input in proptest::collection::vec(any::<u8>(), 0..2000),
        max in 1usize..100,
    ) {
        let mut options = options();
        options.format = InputFormat::Text;
        options.max_line_bytes = max;
        let expected = input
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(&input)
            .split(|byte| *byte == b'\n')
            .filter(|line| line.iter().any(|byte| !matches!(byte, b' ' | b'\t' | b'\r')))
            .count();
        match read_all(&input, &options) {
            Ok(lines) => prop_assert_eq!(lines.len(), expected),
            Err(ReadError::Empty) => prop_assert_eq!(expected, 0),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }

    #[test]
    fn nearly_good_lines_get_one_verdict_and_the_same_one_again(
        lines in proptest::collection::vec(nearly_json(), 1..20),
    ) {
        let input = lines.join("\n");
        let found = read_all(input.as_bytes(), &options()).unwrap();
        prop_assert_eq!(found.len(), lines.len());
        for (line, text) in found.iter().zip(&lines) {
            prop_assert_eq!(&line.text, text);
            let again = parse_line(line.text.as_bytes(), &options());
            prop_assert_eq!(&again, &line.parsed);
            if let Ok(request) = &again.request {
                let params = &request.params;
                prop_assert!(params.temperature.is_finite() && params.top_p > 0.0);
                prop_assert!((1..=16).contains(&params.n) && params.max_tokens > 0);
                let json = serde_json::to_string(request).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Request>(&json).unwrap(), request);
            }
        }
    }
}
