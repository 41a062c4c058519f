// The page of one stream: it asks for its status as often as the server says, and plays what there is to play.

const RETRY_MS = 2_000; // doubled with each failure, up to LONGEST_RETRY_MS
const LONGEST_RETRY_MS = 30_000;
const NOT_PLAYING_MS = 1_000; // a stream that is live has its playlist about a second later
const PATIENCE_MS = 10_000; // for an answer
const STUCK_MS = 12_000; // no picture for that long while it is live: begin afresh
const MEND_MS = 5_000; // a decoder that fails again that soon can't be mended
const OVER = new Set(["offline", "ended"]);

const main = document.querySelector("main");
const stage = main.querySelector(".stage");
const video = main.querySelector("video");
const sound = document.getElementById("sound");
const words = document.getElementById("words");

class Gone extends Error {}

let state = document.getElementById("state").dataset.state;
let player = null; // takes the video away again; null while nothing is played
let finishing = false; // it is over, but what has come already is played to its end
let movedAt = 0; // when the picture last moved
let movedTo = 0; // and where in the video that was
let failures = 0;

// -- what is shown

function write(id, text) {
  const place = document.getElementById(id);
  if (place.textContent !== text) place.textContent = text; // or it would be read aloud again
}

function show(name) {
  state = name;
  const found = words.querySelector(`[data-state="${name}"]`);
  document.getElementById("state").dataset.state = name;
  write("state", found.dataset.label);
  const soundOnly = stage.hasAttribute("data-sound-only") && stage.hasAttribute("data-moving");
  write("notice", soundOnly ? words.querySelector("[data-sound-only]").textContent : found.textContent);
}

function showFigures(status) {
  const viewers = status.is_live ? status.viewer_count : 0;
  write("viewers", viewers > 0 ? `about ${viewers.toLocaleString("en")} watching` : "");
  write("health", words.querySelector(`[data-health="${status.health}"]`).textContent);
}

function moving(moves) {
  if (moves) movedAt = performance.now();
  if (stage.hasAttribute("data-moving") === moves) return;
  stage.toggleAttribute("data-moving", moves);
  show(state);
}

// -- playing

async function play() {
  try {
    await video.play();
  } catch (refused) {
    if (refused.name !== "NotAllowedError") return; // it was taken away meanwhile
    video.muted = true; // browsers let a page play by itself if it is silent
    sound.hidden = false;
    await video.play().catch(() => {}); // not even that: the controls are there
  }
}

let library = null;

function load() {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = main.dataset.hls;
    script.onload = () => resolve(window.Hls);
    script.onerror = () => {
      library = null;
      script.remove();
      reject(new Error("the player could not be loaded"));
    };
    document.head.append(script);
  });
  return library;
}

function playWith(Hls, url) {
  let mendedAt = -Infinity;
  // Without a worker: it would be made of a blob, which this page's policy does not run.
  const hls = new Hls({ enableWorker: false, liveDurationInfinity: true });
  hls.on(Hls.Events.MEDIA_ATTACHED, play);
  hls.on(Hls.Events.ERROR, (_, problem) => {
    if (!problem.fatal) return; // it mends those by itself
    const decoder = problem.type === Hls.ErrorTypes.MEDIA_ERROR;
    if (!decoder || performance.now() - mendedAt < MEND_MS) return stop();
    mendedAt = performance.now();
    hls.recoverMediaError();
  });
  hls.loadSource(url);
  hls.attachMedia(video);
  return hls;
}

function playNatively(url) {
  video.addEventListener("error", stop);
  video.src = url;
  play();
  return {
    stopLoad() {},
    destroy() {
      video.removeAttribute("src");
      video.load();
    },
  };
}

async function start() {
  const stream = await ask(main.dataset.api);
  if (!stream.playback.ready) return;
  const url = stream.playback.hls_url;
  const Hls = window.MediaSource || window.ManagedMediaSource ? await load() : null;
  if (Hls?.isSupported()) player = playWith(Hls, url);
  else if (video.canPlayType("application/vnd.apple.mpegurl")) player = playNatively(url);
  else return show("unplayable");
  finishing = false;
  movedAt = performance.now();
  stage.toggleAttribute("data-playing", true);
  stage.toggleAttribute("data-sound-only", stream.video === null);
}

function stop() {
  player?.destroy();
  player = null;
  finishing = false;
  sound.hidden = true;
  stage.removeAttribute("data-playing");
  moving(false);
}

function finish() {
  if (player === null || finishing) return;
  finishing = true;
  player.stopLoad();
  if (video.paused || !stage.hasAttribute("data-moving")) stop();
}

video.addEventListener("timeupdate", () => {
  if (player === null || video.currentTime === movedTo) return; // told once more as it comes to a halt
  movedTo = video.currentTime;
  moving(true);
});
video.addEventListener("waiting", () => (finishing ? stop() : moving(false)));
video.addEventListener("volumechange", () => {
  if (!video.muted) sound.hidden = true;
});
sound.addEventListener("click", () => {
  video.muted = false;
  video.focus();
});

// -- asking

async function ask(url) {
  // By the browser's own cache, which sends the ETag it has and gives us what it keeps for a 304.
  const answer = await fetch(url, { cache: "no-cache", credentials: "omit", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (answer.status === 404) throw new Gone();
  if (!answer.ok) throw new Error(`${answer.status}`);
  return (await answer.json()).data;
}

async function follow(status) {
  show(status.state);
  showFigures(status);
  if (OVER.has(status.state)) return finish();
  if (status.state !== "live") return;
  const stuck = player !== null && !video.paused && performance.now() - movedAt > STUCK_MS;
  if (stuck || finishing) stop();
  if (player === null) await start();
}

async function look() {
  try {
    const status = await ask(`${main.dataset.api}/status`);
    await follow(status);
    failures = 0;
    return state === "live" && player === null ? NOT_PLAYING_MS : status.poll_after_ms;
  } catch (problem) {
    if (problem instanceof Gone) {
      show("gone");
      finish();
      return null;
    }
    if (player === null) show("unreachable"); // what plays may well go on: it comes from elsewhere
    return Math.min(RETRY_MS * 2 ** failures++, LONGEST_RETRY_MS);
  }
}

for (let wait = 0; wait !== null; wait = await look()) await new Promise((resume) => setTimeout(resume, wait));
