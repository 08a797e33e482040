//! Connections: how many there may be, who has to leave when there are too many, and how one is ended so that its last
//! answer arrives.
//!
//! A connection that waits for a request costs its client nothing, so when all seats are taken the one that has waited
//! longest gives its seat to a new one; then those whose body or answer has been on its way for long. Requests that are
//! worked on, and listeners to events, keep theirs.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use super::desk::Desk;
use super::failure::Failure;
use super::memory::{Held, Kind};

/// The longest that a request's head may take, and that a connection may wait for the next one.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The most bytes of a head, and of what waits to be written.
const BUFFER_BYTES: usize = 64 << 10;
/// What a connection may hold: both buffers, and a small body.
const CONNECTION_BYTES: u64 = 3 * BUFFER_BYTES as u64;
/// The longest that a client may not read while an answer waits.
const STALL: Duration = Duration::from_secs(20);
/// A body or an answer that has been on its way for this long may have to go.
const LONG: Duration = Duration::from_secs(5);
/// What is read and thrown away of a request that was answered before it had all come: otherwise the client would be told
/// of a broken connection and not see the answer.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_PAUSE: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 512 << 20;
/// The most connections, whatever the system allows.
const MOST: u64 = 1024;
/// Open files that the rest of the program may need beside those that it has at the start.
const N_OTHER_FILES: u64 = 24;
/// How many connections fit the process's limit of open files (each may have a file of the page open too) and the
/// memory for connections.
pub fn most_connections(share_bytes: u64) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    let n_open = std::fs::read_dir("/proc/self/fd").map_or(16, |files| files.count() as u64);
    let by_files = soft.unwrap_or(256_u64).saturating_sub(n_open + N_OTHER_FILES) / 2;
    by_files.min(share_bytes / CONNECTION_BYTES).clamp(4, MOST) as usize
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Waits for a request, or for the rest of its head.
    Waiting,
    /// Receives a body.
    Receiving,
    /// Has its request worked on.
    Busy,
    /// Sends an answer.
    Sending,
    /// Listens to a job's events.
    Listening,
}

struct Taken {
    doing: Doing,
    since: Instant,
    leave: Arc<Notify>,
}

#[derive(Default)]
struct Seats {
    taken: HashMap<u64, Taken>,
    n_given: u64,
}

/// All connections.
pub struct Hall {
    seats: Mutex<Seats>,
    n_seats: usize,
    desk: Arc<Desk>,
    /// What those are told who get no seat.
    no_seat: String,
}

/// One connection's place among all; given up when it is dropped.
pub struct Seat {
    hall: Arc<Hall>,
    id: u64,
    leave: Arc<Notify>,
    _held: Held,
}

impl Hall {
    pub fn new(desk: Arc<Desk>, n_seats: usize) -> Arc<Self> {
        let message = "all connections are in use: try again later";
        let body = Failure::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", message).object().to_string();
        let no_seat = format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Retry-After: 5\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        Arc::new(Hall { seats: Mutex::default(), n_seats, desk, no_seat })
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections now, and the most that there may be.
    pub fn n_connections(&self) -> (usize, usize) {
        (self.seats().taken.len(), self.n_seats)
    }

    /// Sends away whoever costs least to send away, if there is somebody.
    fn make_room(&self) -> bool {
        let mut seats = self.seats();
        let now = Instant::now();
        let rank = |taken: &Taken| match taken.doing {
            Doing::Waiting => Some(0),
            Doing::Receiving if now - taken.since > LONG => Some(1),
            Doing::Sending if now - taken.since > LONG => Some(2),
            _ => None,
        };
        let ranked = seats.taken.iter().filter_map(|(id, taken)| Some((rank(taken)?, taken.since, *id)));
        let Some((_, _, id)) = ranked.min() else { return false };
        if let Some(taken) = seats.taken.remove(&id) {
            taken.leave.notify_one();
        }
        true
    }

    fn seat(self: &Arc<Self>) -> Option<Seat> {
        if self.seats().taken.len() >= self.n_seats && !self.make_room() {
            return None;
        }
        let mut seats = self.seats();
        let (id, leave) = (seats.n_given, Arc::new(Notify::new()));
        seats.n_given += 1;
        let taken = Taken { doing: Doing::Waiting, since: Instant::now(), leave: Arc::clone(&leave) };
        seats.taken.insert(id, taken);
        let held = self.desk.memory.count(Kind::Connections, CONNECTION_BYTES);
        Some(Seat { hall: Arc::clone(self), id, leave, _held: held })
    }
}

impl Seat {
    /// Says what the connection does from now on.
    pub fn does(&self, doing: Doing) {
        if let Some(taken) = self.hall.seats().taken.get_mut(&self.id) {
            (taken.doing, taken.since) = (doing, Instant::now());
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hall.seats().taken.remove(&self.id);
    }
}

/// Accepts until the end of the process. Connections that are idle end when `ending` says so, the others after their
/// answer.
pub async fn accept(listener: TcpListener, hall: Arc<Hall>, app: Router, ending: watch::Receiver<bool>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match hall.seat() {
                Some(seat) => {
                    tokio::spawn(attend(stream, seat, app.clone(), ending.clone()));
                    // A request that is there already is read before somebody else may take the seat.
                    tokio::task::yield_now().await;
                }
                None => turn_away(&stream, &hall.no_seat),
            },
            Err(error) if is_of_connection(&error) => {}
            Err(_) => {
                // Most likely no more files can be opened: whoever waits makes room.
                hall.make_room();
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// A connection that failed before it was accepted.
fn is_of_connection(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
    )
}

/// Says that there is no seat. What the client sends is not waited for.
fn turn_away(stream: &TcpStream, answer: &str) {
    // Whether it hears of it or not, it has to go.
    let mut ignored = [0; 4096];
    stream.try_read(&mut ignored).ok();
    stream.try_write(answer.as_bytes()).ok();
}

async fn attend(stream: TcpStream, seat: Seat, app: Router, mut ending: watch::Receiver<bool>) {
    // Small answers go at once; where that cannot be had they go a little later.
    stream.set_nodelay(true).ok();
    let seat = Arc::new(seat);
    let app = TowerToHyperService::new(app);
    let its_seat = Arc::clone(&seat);
    let answer = service_fn(move |mut request: Request<Incoming>| {
        let seat = Arc::clone(&its_seat);
        seat.does(Doing::Busy);
        request.extensions_mut().insert(Arc::clone(&seat));
        let answered = app.call(request);
        Box::pin(async move {
            let response: Response<Body> = answered.await?;
            seat.hall.desk.metrics.answered(response.status().as_u16());
            let is_stream =
                response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
            seat.does(if is_stream { Doing::Listening } else { Doing::Sending });
            Ok::<_, std::convert::Infallible>(response.map(|body| Answer { body, seat }))
        })
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(BUFFER_BYTES);
    let mut connection = http.serve_connection(TokioIo::new(Socket { stream, stall: None }), answer);
    let mut leave = Box::pin(seat.leave.notified());
    let mut end = Box::pin(async {
        // The sender lives as long as the process.
        ending.wait_for(|is_ending| *is_ending).await.ok();
    });
    let mut is_ending = false;
    let is_whole = poll_fn(|cx| {
        if leave.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        if !is_ending && end.as_mut().poll(cx).is_ready() {
            is_ending = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        connection.poll_without_shutdown(cx).map(|_| true)
    })
    .await;
    if is_whole {
        seat.does(Doing::Waiting);
        let stream = connection.into_parts().io.into_inner().stream;
        let mut linger = Box::pin(linger(stream));
        poll_fn(|cx| match leave.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => linger.as_mut().poll(cx),
        })
        .await;
    }
}

/// Ends a connection in order: first our side, then what the client still sends is read and thrown away for a while.
async fn linger(mut stream: TcpStream) {
    let end = Instant::now() + LINGER;
    let mut n_left = LINGER_BYTES;
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut ignored = vec![0; BUFFER_BYTES];
    while n_left > 0 {
        let soon = Instant::now() + LINGER_PAUSE;
        match timeout_at(end.min(soon), stream.read(&mut ignored)).await {
            Ok(Ok(n_bytes)) if n_bytes > 0 => n_left = n_left.saturating_sub(n_bytes as u64),
            _ => return,
        }
    }
}

/// An answer's body; the connection waits again when it is sent.
struct Answer {
    body: Body,
    seat: Arc<Seat>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.seat.does(Doing::Waiting);
    }
}

/// A socket whose writes fail when the client has not read for long.
struct Socket {
    stream: TcpStream,
    stall: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Passes on what a write says, and starts or stops the clock.
    fn timed<T>(&mut self, cx: &mut Context<'_>, written: Poll<Result<T>>) -> Poll<Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALL)));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.timed(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.timed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
