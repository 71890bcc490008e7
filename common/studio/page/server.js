// The back end of the studio: Python, at the other end of a websocket (server.py).

export async function connect({ lost }) {
  const socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/play`);
  socket.binaryType = "arraybuffer";
  const answers = []; // what waits for an answer, in order

  socket.onmessage = ({ data }) => {
    const bytes = new Uint8Array(data);
    const end = bytes.indexOf(10);
    const about = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
    answers.shift()({ ...about, payload: bytes.subarray(end + 1) });
  };
  let closed = ""; // why there are no more answers
  socket.onclose = ({ reason }) => {
    closed = reason || "The studio is closed. Start it again, then reload this page.";
    answers.splice(0).forEach((resolve) => resolve({ error: closed }));
    lost(closed);
  };
  const opened = new Promise((resolve) => { socket.onopen = resolve; });

  const games = await (await fetch("games")).json();
  await opened;
  const ask = async (message) => closed ? { error: closed } : new Promise((resolve) => {
    answers.push(resolve);
    socket.send(JSON.stringify(message));
  });
  return { games, worlds: ["dream", "game"], ask };
}
