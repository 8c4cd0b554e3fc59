//! The engine through its trait: two families, state, localities, cancellation.
//!
//! There is one TPM in a process, so all of it takes turns.

use std::sync::{Mutex, PoisonError};
use std::thread;

use libtpms::Libtpms;
use vtpm::command::{Family, answer_code, code, pcr_event, startup_clear};
use vtpm::state::{Secret, State};
use vtpm::{Engine, EngineError};

static TURN: Mutex<()> = Mutex::new(());

fn with(family: Family, test: impl FnOnce(&mut Libtpms)) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut engine = Libtpms::take(family).expect("one at a time");
    assert!(Libtpms::take(family).is_none(), "there is only one");
    test(&mut engine);
}

fn run(engine: &mut Libtpms, command: &[u8]) -> u32 {
    answer_code(&engine.execute(0, command).unwrap()).unwrap()
}

/// `TPM2_PCR_Read` of one PCR in the SHA-256 bank; the digest.
fn read_pcr(engine: &mut Libtpms, pcr: u8) -> Vec<u8> {
    let mut select = [0; 3];
    select[usize::from(pcr / 8)] = 1 << (pcr % 8);
    let head = [0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7e, 0, 0, 0, 1, 0, 0x0b, 3];
    let answer = engine.execute(0, &[&head[..], &select].concat()).unwrap();
    assert_eq!(answer_code(&answer), Some(0));
    answer[answer.len() - 32..].to_vec()
}

fn permanent(state: &State) -> &Secret {
    state.permanent.as_ref().unwrap()
}

#[test]
fn tpm_2_keeps_its_state() {
    with(Family::Tpm20, |engine| {
        assert!(engine.name().starts_with("libtpms 0."), "{}", engine.name());
        assert!(engine.execute(0, &startup_clear(Family::Tpm20)).is_err(), "no power");
        engine.power_on(&State::new(Family::Tpm20)).unwrap();
        let manufactured = engine.changed().expect("a new TPM has seeds");
        assert!(permanent(&manufactured).len() > 500);
        assert!(engine.changed().is_none());
        assert_eq!(run(engine, &read_command()), code::INITIALIZE);
        assert_eq!(run(engine, &startup_clear(Family::Tpm20)), 0);
        assert_eq!(run(engine, &startup_clear(Family::Tpm20)), code::INITIALIZE);
        engine.changed();
        assert_eq!(read_pcr(engine, 3), [0; 32]);
        assert!(engine.changed().is_none(), "reading changes nothing");
        assert_eq!(run(engine, &pcr_event(3, b"event")), 0);
        let measured = read_pcr(engine, 3);
        assert_ne!(measured, [0; 32]);

        // With the volatile state it goes on, without it starts anew.
        let volatile = Secret::new(engine.volatile().unwrap());
        let base = engine.changed().unwrap_or(manufactured);
        let state = State { volatile: Some(volatile), ..base };
        engine.power_off();
        engine.power_on(&state).unwrap();
        assert_eq!(read_pcr(engine, 3), measured);
        engine.power_on(&State { volatile: None, ..state.clone() }).unwrap();
        assert_eq!(run(engine, &startup_clear(Family::Tpm20)), 0);
        assert_eq!(read_pcr(engine, 3), [0; 32]);
    });
}

fn read_command() -> Vec<u8> {
    // TPM2_GetRandom(8)
    vec![0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8]
}

#[test]
fn tpm_12_starts() {
    with(Family::Tpm12, |engine| {
        engine.power_on(&State::new(Family::Tpm12)).unwrap();
        let state = engine.changed().expect("a new TPM has state");
        assert_eq!(state.family, Family::Tpm12);
        assert_eq!(run(engine, &startup_clear(Family::Tpm12)), 0);
        // TPM_GetRandom(8)
        let random = [0x00, 0xc1, 0, 0, 0, 14, 0, 0, 0, 0x46, 0, 0, 0, 8];
        assert_eq!(run(engine, &random), 0);
        assert_eq!(run(engine, &vtpm::command::extend_12(3, &[1; 20])), 0);
        engine.power_on(&state).unwrap();
        assert_eq!(run(engine, &startup_clear(Family::Tpm12)), 0);
    });
}

#[test]
fn a_damaged_state_is_refused() {
    with(Family::Tpm20, |engine| {
        engine.power_on(&State::new(Family::Tpm20)).unwrap();
        let state = engine.changed().unwrap();
        for cut in [0, 1, 10, permanent(&state).len() / 2, permanent(&state).len() - 1] {
            let bad =
                State { permanent: Some(Secret::new(permanent(&state)[..cut].to_vec())), ..State::default() };
            let error = engine.power_on(&bad).unwrap_err();
            assert_eq!(error.call, "TPMLIB_MainInit", "{cut} bytes");
            assert!(engine.execute(0, &read_command()).is_err());
        }
        let bad = State { volatile: Some(Secret::new(vec![1; 100])), ..state.clone() };
        assert!(engine.power_on(&bad).is_err());
        engine.power_on(&state).unwrap();
        assert_eq!(run(engine, &startup_clear(Family::Tpm20)), 0);
    });
}

#[test]
fn the_locality_arrives() {
    with(Family::Tpm20, |engine| {
        engine.power_on(&State::new(Family::Tpm20)).unwrap();
        assert_eq!(run(engine, &startup_clear(Family::Tpm20)), 0);
        // PCR 20 can be extended at localities 1, 2 and 3 (TCG PC Client Platform TPM Profile, 4.6).
        let code = |engine: &mut Libtpms, locality| {
            answer_code(&engine.execute(locality, &pcr_event(20, b"event")).unwrap())
        };
        assert_eq!(code(engine, 0), Some(code::LOCALITY));
        assert_eq!(code(engine, 3), Some(0));
    });
}

#[test]
fn a_long_command_can_be_cancelled() {
    with(Family::Tpm20, |engine| {
        engine.power_on(&State::new(Family::Tpm20)).unwrap();
        assert_eq!(run(engine, &startup_clear(Family::Tpm20)), 0);
        // TPM2_CreatePrimary of an RSA-2048 key in the owner hierarchy, with random in its template so that no two
        // searches for primes are the same.
        let mut unique = 0u8;
        let cancelled = (0..200).any(|_| {
            unique = unique.wrapping_add(1);
            let command = create_primary(unique);
            let canceller = engine.canceller();
            let stop = thread::spawn({
                move || {
                    for _ in 0..50 {
                        thread::yield_now();
                        canceller.cancel();
                    }
                }
            });
            let answer = engine.execute(0, &command);
            stop.join().unwrap();
            match answer.map(|answer| answer_code(&answer)) {
                Ok(Some(0x909)) => true,
                Ok(Some(0)) | Ok(Some(0x902)) => {
                    // Free the slot again: transient objects are few.
                    let flush = [0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x65, 0x80, 0, 0, 0];
                    engine.execute(0, &flush).unwrap();
                    false
                }
                other => panic!("{other:x?}"),
            }
        });
        assert!(cancelled, "none of 200 was cancelled");
        assert_eq!(run(engine, &read_command()), 0);
    });
}

fn create_primary(unique: u8) -> Vec<u8> {
    let mut public = vec![0, 1, 0, 0x0b]; // RSA, SHA-256
    public.extend([0, 3, 0, 0x72]); // fixed to TPM and parent, own secret, password; restricted decryption
    public.extend([0, 0]); // no policy
    public.extend([0, 6, 0, 0x80, 0, 0x43]); // AES-128-CFB
    public.extend([0, 0x10]); // no scheme
    public.extend([8, 0]); // 2048 bits
    public.extend([0, 0, 0, 0]); // exponent
    public.extend([0, 1, unique]); // unique
    let mut body = vec![0x40, 0, 0, 1]; // owner
    body.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
    body.extend([0, 4, 0, 0, 0, 0]); // no secrets
    body.extend((public.len() as u16).to_be_bytes());
    body.extend(public);
    body.extend([0, 0, 0, 0, 0, 0]); // outside info, PCRs
    let mut command = vec![0x80, 2];
    command.extend((10 + body.len() as u32).to_be_bytes());
    command.extend([0, 0, 1, 0x31]);
    command.extend(body);
    command
}

#[test]
fn errors_name_the_call() {
    let error = EngineError { call: "TPMLIB_MainInit", number: 9 };
    assert_eq!(error.to_string(), "the TPM engine failed in TPMLIB_MainInit with 0x9");
}
