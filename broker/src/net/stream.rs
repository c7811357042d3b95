//! The byte stream of an AMQP connection: a socket, or TLS over one. A plain socket pays one branch for the choice.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;

/// Most bytes taken from the socket at once under TLS. What comes out is less, so it fits the buffer of the caller.
const TLS_READ_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static CIPHERTEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A client's byte stream.
pub enum Stream {
    /// As the socket has it.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream>),
}

/// TLS whose handshake is done.
pub struct TlsStream {
    socket: TcpStream,
    tls: ServerConnection,
    /// TLS has something to tell before the socket is asked: plaintext that came with the handshake, or the end.
    has_news: bool,
}

impl Stream {
    /// TLS over a socket, after the handshake.
    pub fn tls(socket: TcpStream, tls: ServerConnection) -> Stream {
        Stream::Tls(Box::new(TlsStream {
            socket,
            tls,
            has_news: true,
        }))
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.socket,
        }
    }

    /// Is it worth while to read?
    pub fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Stream::Tls(stream) if stream.has_news => Poll::Ready(()),
            _ => self.socket().poll_read_ready(context).map(drop),
        }
    }

    /// Reads into the buffer, which has room for `TLS_READ_BYTES_MAX` and more. Nothing read is the end.
    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Stream::Tls(stream) => stream.poll_read(context, buffer),
        }
    }

    /// Can the socket take something?
    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        self.socket().poll_write_ready(context).map(drop)
    }

    /// Waits until the socket can take something.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket().writable().await
    }

    /// Takes as many bytes as go out now, or under TLS into its small buffer.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.try_write(bytes),
            Stream::Tls(stream) => stream.try_write(bytes),
        }
    }

    /// Does TLS hold bytes that the socket has not taken?
    pub fn has_unsent(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.tls.wants_write(),
        }
    }

    /// Gives the socket what TLS holds.
    pub fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(stream) => stream.try_flush(),
        }
    }

    /// Says that nothing more will be written.
    pub fn shut_down(&mut self) -> io::Result<()> {
        if let Stream::Tls(stream) = self {
            stream.tls.send_close_notify();
            // A client that takes nothing any more does without it.
            let _ = stream.try_flush();
        }
        rustix::net::shutdown(self.socket(), rustix::net::Shutdown::Write)?;
        Ok(())
    }

    /// Reads and drops once; the number of bytes, 0 at the end.
    pub async fn drop_input(&mut self) -> io::Result<usize> {
        // What the bytes say does not matter any more, so they need not be decrypted.
        let mut scratch = [0; 4096];
        let socket = self.socket();
        loop {
            socket.readable().await?;
            match socket.try_read(&mut scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

impl TlsStream {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.has_news) && self.take_plaintext(buffer)? {
            return Poll::Ready(Ok(()));
        }
        CIPHERTEXT.with_borrow_mut(|ciphertext| {
            ciphertext.resize(TLS_READ_BYTES_MAX, 0);
            loop {
                let mut space = ReadBuf::new(ciphertext);
                ready!(Pin::new(&mut self.socket).poll_read(context, &mut space))?;
                // Without a goodbye of TLS the end is the end too: AMQP says by itself whether something is missing.
                if space.filled().is_empty() || self.decrypt(space.filled(), buffer)? {
                    return Poll::Ready(Ok(()));
                }
            }
        })
    }

    /// Decrypts all of it; whether there is something for the caller, which may be the end.
    fn decrypt(&mut self, mut ciphertext: &[u8], buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        let mut any = false;
        while !ciphertext.is_empty() {
            if self.tls.read_tls(&mut ciphertext)? == 0 {
                // The client has said goodbye; what follows is nobody's.
                return Ok(true);
            }
            if let Err(error) = self.tls.process_new_packets() {
                // The client is told by an alert, if it still reads.
                let _ = self.try_flush();
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            any |= self.take_plaintext(buffer)?;
        }
        Ok(any)
    }

    /// Moves what is decrypted to the caller; whether there was something, which may be the end.
    fn take_plaintext(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        let mut any = false;
        while buffer.remaining() > 0 {
            match self.tls.reader().read(buffer.initialize_unfilled()) {
                Ok(0) => {
                    self.has_news = any;
                    return Ok(true);
                }
                Ok(length) => {
                    buffer.advance(length);
                    any = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_flush()?;
        if self.tls.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.tls.writer().write(bytes)?;
        self.try_flush()?;
        Ok(taken)
    }

    fn try_flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut NonBlocking(&self.socket)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Writes what the socket takes at once; several records go in one call.
struct NonBlocking<'a>(&'a TcpStream);

impl io::Write for NonBlocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
