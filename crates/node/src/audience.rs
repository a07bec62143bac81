//! Who listens to a container while it runs, and who may type into it: the container's side of `kubectl attach`. What is
//! heard is also logged; a listener that does not listen is left behind, so that no container waits for it for ever.

use bytes::Bytes;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

/// Pieces of output that wait for one listener.
const WAITING: usize = 16;
/// How long a container's output waits for one listener.
const PATIENCE: Duration = Duration::from_secs(10);
const TYPED_BYTES: usize = 64 << 10;

/// Which of a container's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    Out,
    Err,
}

struct Listener {
    voice: Voice,
    sender: PollSender<Bytes>,
    /// There is room for one piece.
    room: bool,
}

impl Listener {
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if !self.room {
            match self.sender.poll_reserve(context) {
                Poll::Ready(Ok(())) => self.room = true,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Gone)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(if self.sender.is_closed() { Err(Gone) } else { Ok(()) })
    }
}

struct Gone;

/// The listeners of one container.
#[derive(Clone, Default)]
pub(crate) struct Audience(Arc<Mutex<Hall>>);

#[derive(Default)]
struct Hall {
    listeners: Vec<Listener>,
    over: bool,
}

impl Audience {
    fn lock(&self) -> MutexGuard<'_, Hall> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is said from now on, until the container has said all.
    pub(crate) fn listen(&self, voice: Voice) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let mut hall = self.lock();
        if !hall.over {
            hall.listeners.push(Listener { voice, sender: PollSender::new(sender), room: false });
        }
        receiver
    }

    /// Nothing more will be said.
    pub(crate) fn dismiss(&self) {
        let mut hall = self.lock();
        hall.over = true;
        hall.listeners.clear();
    }

    /// Ready when everybody can take one more piece. Whoever has gone is forgotten.
    fn poll_ready(&self, context: &mut Context<'_>, voice: Voice) -> Poll<()> {
        let mut waiting = false;
        self.lock().listeners.retain_mut(|listener| {
            if listener.voice != voice {
                return true;
            }
            match listener.poll_room(context) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(_)) => false,
                Poll::Pending => {
                    waiting = true;
                    true
                }
            }
        });
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Forgets those for whom the container has waited in vain.
    fn leave_behind(&self, context: &mut Context<'_>, voice: Voice) {
        self.lock().listeners.retain_mut(|l| l.voice != voice || matches!(l.poll_room(context), Poll::Ready(Ok(()))));
    }

    fn say(&self, voice: Voice, bytes: &[u8]) {
        let mut hall = self.lock();
        let mut piece = None;
        // One who came since room was made for all begins with the next piece.
        for listener in hall.listeners.iter_mut().filter(|l| l.voice == voice && l.room) {
            let piece: &Bytes = piece.get_or_insert_with(|| Bytes::copy_from_slice(bytes));
            listener.room = false;
            let _ = listener.sender.send_item(piece.clone());
        }
    }
}

/// A stream of a container, heard by its audience as it is read.
pub(crate) struct Heard<R> {
    source: R,
    voice: Voice,
    audience: Audience,
    /// How long the source waits for one listener.
    patience: Duration,
    waiting: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<R> Heard<R> {
    pub(crate) fn new(source: R, voice: Voice, audience: Audience) -> Self {
        Self { source, voice, audience, patience: PATIENCE, waiting: None }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Heard<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.audience.poll_ready(context, self.voice).is_pending() {
            let patience = self.patience;
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
            if waiting.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.audience.leave_behind(context, self.voice);
        }
        self.waiting = None;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.source).poll_read(context, buffer);
        if let (Poll::Ready(Ok(())), Some(bytes @ [_, ..])) = (&read, buffer.filled().get(before..)) {
            self.audience.say(self.voice, bytes);
        }
        read
    }
}

/// A container's standard input, which the agent holds open.
#[derive(Clone)]
pub(crate) struct Keyboard {
    writer: Arc<tokio::sync::Mutex<Option<Box<dyn AsyncWrite + Send + Unpin>>>>,
    /// It ends with the first that typed.
    once: bool,
}

impl Keyboard {
    pub(crate) fn new(writer: impl AsyncWrite + Send + Unpin + 'static, once: bool) -> Self {
        Self { writer: Arc::new(tokio::sync::Mutex::new(Some(Box::new(writer)))), once }
    }

    /// Types what is written to the answer, until that is dropped.
    pub(crate) fn typist(&self) -> tokio::io::DuplexStream {
        let (near, mut far) = tokio::io::duplex(TYPED_BYTES);
        let keyboard = self.clone();
        tokio::spawn(async move {
            let mut bytes = vec![0; 16 << 10];
            while let Ok(read @ 1..) = far.read(&mut bytes).await {
                let mut writer = keyboard.writer.lock().await;
                let Some(open) = writer.as_mut() else { return };
                if open.write_all(&bytes[..read]).await.is_err() || open.flush().await.is_err() {
                    *writer = None;
                    return;
                }
            }
            if keyboard.once {
                *keyboard.writer.lock().await = None;
            }
        });
        near
    }

    /// Nobody types any more.
    pub(crate) async fn close(&self) {
        *self.writer.lock().await = None;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_hears_what_is_said_and_the_log_too() {
        let (mut mouth, source) = tokio::io::duplex(1 << 20);
        let audience = Audience::default();
        let mut heard = Heard::new(source, Voice::Out, audience.clone());
        let (mut one, mut other, mut errors) =
            (audience.listen(Voice::Out), audience.listen(Voice::Out), audience.listen(Voice::Err));
        mouth.write_all(b"hello").await.unwrap();
        let mut log = [0; 5];
        heard.read_exact(&mut log).await.unwrap();
        assert_eq!(
            (&log, one.recv().await.unwrap(), other.recv().await.unwrap()),
            (b"hello", "hello".into(), "hello".into())
        );
        drop(other);
        drop(mouth);
        let mut rest = Vec::new();
        heard.read_to_end(&mut rest).await.unwrap();
        audience.dismiss();
        assert_eq!((one.recv().await, errors.recv().await), (None, None));
        assert_eq!(audience.listen(Voice::Out).recv().await, None, "there is nothing to hear afterwards");
    }

    #[tokio::test]
    async fn the_container_waits_for_a_listener_but_not_for_ever() {
        let (mut mouth, source) = tokio::io::duplex(1 << 20);
        let audience = Audience::default();
        let mut heard = Heard::new(source, Voice::Out, audience.clone());
        heard.patience = Duration::from_millis(50);
        let mut slow = audience.listen(Voice::Out);
        let mut log = [0; 1];
        for _ in 0..=WAITING {
            mouth.write_all(b"x").await.unwrap();
        }
        for _ in 0..WAITING {
            heard.read_exact(&mut log).await.unwrap();
        }
        let begun = tokio::time::Instant::now();
        heard.read_exact(&mut log).await.unwrap();
        assert!(begun.elapsed() >= heard.patience);
        let mut got = 0;
        while slow.recv().await.is_some() {
            got += 1;
        }
        assert_eq!(got, WAITING, "it is told by the end that it missed something");
    }

    #[tokio::test]
    async fn typing_ends_with_the_first_where_it_is_asked_so() {
        for once in [true, false] {
            let (writer, mut reader) = tokio::io::duplex(64);
            let keyboard = Keyboard::new(writer, once);
            let mut typist = keyboard.typist();
            typist.write_all(b"one").await.unwrap();
            drop(typist);
            let mut text = [0; 3];
            reader.read_exact(&mut text).await.unwrap();
            if !once {
                let mut typist = keyboard.typist();
                typist.write_all(b"two").await.unwrap();
                reader.read_exact(&mut text).await.unwrap();
                assert_eq!(&text, b"two");
                keyboard.close().await;
            }
            assert_eq!(reader.read(&mut text).await.unwrap(), 0);
        }
    }
}
