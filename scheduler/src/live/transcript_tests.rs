//! Joining under every loss, repetition and order that a fixed seed gives.

use super::*;
use rbee_queue::ids::{BatchNo, JobIndex};
use rbee_queue::{Choice, FinishReason, JobRef, Usage};

/// A small generator: the tests are repeatable.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % most as u64) as usize
    }
}

fn event(attempt: u64, choice: u32, first_token: u32, tokens: u32, text: &str) -> TextEvent {
    TextEvent {
        job: JobRef {
            batch: BatchNo(1),
            index: JobIndex(0),
        },
        attempt: Attempt(attempt),
        choice,
        first_token,
        tokens,
        text: text.into(),
    }
}

/// What the engine says of a text whose tokens are these: pieces at whole characters, snapshots at any token.
struct Speaker {
    tokens: Vec<&'static str>,
}

impl Speaker {
    /// The text of the first tokens; the empty token is the beginning of a character.
    fn text(&self, tokens: usize) -> String {
        self.tokens[..tokens].concat()
    }

    fn snapshot(&self, attempt: u64, tokens: usize) -> TextEvent {
        let text = self.text(tokens);
        let tokens = if text.is_empty() { 0 } else { tokens };
        event(attempt, 0, 0, tokens as u32, &text)
    }

    /// Pieces behind the first `from` tokens, as they come one by one.
    fn pieces(&self, attempt: u64, from: usize) -> Vec<TextEvent> {
        let (mut begin, mut pieces) = (from, Vec::new());
        for at in from..self.tokens.len() {
            let text = &self.tokens[begin..=at].concat();
            if !text.is_empty() {
                let count = (at + 1 - begin) as u32;
                pieces.push(event(attempt, 0, begin as u32, count, text));
                begin = at + 1;
            }
        }
        pieces
    }
}

fn answer(text: &str, tokens: u32) -> Completed {
    Completed {
        choices: vec![Choice {
            index: 0,
            text: text.into(),
            finish_reason: FinishReason::Stop,
            logprobs: None,
        }],
        usage: Usage {
            prompt_tokens: 1,
            completion_tokens: tokens,
        },
        ..Completed::default()
    }
}

/// A reader that keeps what it is told and checks that nothing is left out or comes twice.
#[derive(Default)]
struct Reader {
    place: Place,
    text: String,
    next: u32,
    last_id: Option<String>,
    resets: usize,
}

impl Reader {
    fn read(&mut self, transcript: &Transcript, whole: bool) {
        let news = transcript.read(&mut self.place, whole);
        if news.reset.is_some() {
            self.resets += 1;
            (self.text, self.next) = (String::new(), 0);
        }
        for piece in news.pieces {
            assert_eq!(piece.first_token, self.next, "{piece:?}");
            self.text.push_str(&piece.text);
            self.next = piece.first_token + piece.tokens;
            self.last_id = Some(piece.id);
        }
    }

    /// The connection broke, and another one goes on.
    fn reconnect(&mut self) {
        self.place = match &self.last_id {
            Some(id) => id.parse().unwrap(),
            None => Place::default(),
        };
    }
}

const TOKENS: [&str; 12] = [
    "Why", " is", "", "é", "", "", "漢", " the", "", "x", "y", "!",
];

#[test]
fn every_token_comes_once_and_in_order_whatever_is_lost_repeated_or_reordered() {
    let speaker = Speaker {
        tokens: TOKENS.to_vec(),
    };
    let whole = speaker.text(TOKENS.len());
    for seed in 0..3_000 {
        let mut dice = Dice(seed);
        let mut transcript = Transcript::new(true);
        let (mut early, mut late) = (Reader::default(), Reader::default());
        let mut wire: Vec<TextEvent> = Vec::new();
        for attempt in 1..=1 + dice.below(3) as u64 {
            let mut from = dice.below(TOKENS.len());
            wire.push(speaker.snapshot(attempt, from));
            for _ in 0..dice.below(40) {
                let mut pieces = speaker.pieces(attempt, from);
                match dice.below(6) {
                    // A snapshot that somebody asked for, and what follows it.
                    0 => {
                        from = dice.below(TOKENS.len() + 1);
                        wire.push(speaker.snapshot(attempt, from));
                    }
                    _ if pieces.is_empty() => {}
                    _ => wire.push(pieces.swap_remove(dice.below(pieces.len()))),
                }
            }
            for _ in 0..wire.len() {
                let (one, other) = (dice.below(wire.len()), dice.below(wire.len()));
                wire.swap(one, other);
            }
            // Some is lost with the connection.
            wire.truncate(wire.len() - dice.below(wire.len().min(5)));
            for event in wire.drain(..) {
                if transcript.add(&event) == Joined::Gap {
                    let asked = speaker.snapshot(event.attempt.0, dice.below(TOKENS.len() + 1));
                    transcript.add(&asked);
                }
                if dice.below(3) == 0 {
                    early.read(&transcript, false);
                }
                if dice.below(8) == 0 {
                    early.reconnect();
                }
            }
        }
        early.read(&transcript, false);
        assert!(
            whole.starts_with(&early.text),
            "seed {seed}: {:?}",
            early.text
        );
        transcript.finish(Attempt(3), &answer(&whole, TOKENS.len() as u32));
        early.read(&transcript, true);
        late.read(&transcript, true);
        assert_eq!(early.text, whole, "seed {seed}");
        assert_eq!(late.text, whole, "seed {seed}");
        assert_eq!((early.resets, late.resets), (0, 0), "seed {seed}");
    }
}

#[test]
fn reader_of_a_server_that_has_just_begun_gets_the_rest_or_all_of_it_anew() {
    let speaker = Speaker {
        tokens: TOKENS.to_vec(),
    };
    // The new server has seen one snapshot: where token 4 is in it, it cannot know.
    let mut transcript = Transcript::new(true);
    let mut reader = Reader {
        place: "1.0.4".parse().unwrap(),
        text: speaker.text(4),
        next: 4,
        ..Reader::default()
    };
    reader.read(&transcript, false);
    assert_eq!(reader.resets, 0, "nothing has come yet");
    transcript.add(&speaker.snapshot(1, 8));
    reader.read(&transcript, false);
    assert_eq!((reader.resets, reader.text), (1, speaker.text(8)));
    // With pieces it knows.
    let mut transcript = Transcript::new(true);
    for piece in speaker.pieces(2, 0) {
        transcript.add(&piece);
    }
    let mut reader = Reader {
        place: "1.0.4".parse().unwrap(),
        text: speaker.text(4),
        next: 4,
        ..Reader::default()
    };
    reader.read(&transcript, false);
    assert_eq!(
        (reader.resets, reader.text),
        (0, speaker.text(TOKENS.len()))
    );
}

#[test]
fn attempt_of_other_numerics_begins_anew() {
    let mut transcript = Transcript::new(false);
    let mut reader = Reader::default();
    transcript.add(&event(1, 0, 0, 2, "ab"));
    reader.read(&transcript, false);
    assert_eq!(reader.text, "ab");
    assert_eq!(transcript.add(&event(2, 0, 0, 1, "x")), Joined::News);
    assert_eq!(transcript.add(&event(1, 0, 2, 1, "c")), Joined::Nothing);
    reader.read(&transcript, false);
    assert_eq!((reader.resets, reader.text.as_str()), (1, "x"));
    let mut resumed = Reader {
        place: "1.0.2".parse().unwrap(),
        ..Reader::default()
    };
    resumed.read(&transcript, false);
    assert_eq!((resumed.resets, resumed.text.as_str()), (1, "x"));
}

#[test]
fn text_that_does_not_agree_begins_anew_even_if_it_should() {
    let mut transcript = Transcript::new(true);
    let mut reader = Reader::default();
    transcript.add(&event(1, 0, 0, 2, "ab"));
    reader.read(&transcript, false);
    assert_eq!(transcript.add(&event(2, 0, 0, 2, "aX")), Joined::News);
    reader.read(&transcript, false);
    assert_eq!((reader.resets, reader.text.as_str()), (1, "aX"));
    transcript.finish(Attempt(2), &answer("other", 5));
    reader.read(&transcript, true);
    assert_eq!((reader.resets, reader.text.as_str()), (2, "other"));
}

#[test]
fn choices_have_places_of_their_own() {
    let mut transcript = Transcript::new(true);
    transcript.add(&event(1, 0, 0, 2, "ab"));
    transcript.add(&event(1, 1, 0, 1, "q"));
    let mut place = Place::default();
    let news = transcript.read(&mut place, false);
    assert_eq!(news.pieces[0].id, "1.0.2");
    assert_eq!(news.pieces[1].id, "1.0.2,1.1.1");
    let mut resumed: Place = news.pieces[1].id.parse().unwrap();
    transcript.add(&event(1, 1, 1, 1, "r"));
    let news = transcript.read(&mut resumed, false);
    assert_eq!(news.pieces.len(), 1);
    assert_eq!(
        (news.pieces[0].choice, news.pieces[0].text.as_str()),
        (1, "r")
    );
    for wrong in ["", "1", "1.0", "1.0.x", "1.0.1.1", "1.0.1,1.0.2"] {
        assert_eq!(wrong.parse::<Place>(), Err(NoPlace), "{wrong}");
    }
}
