// The player of the Video tab.

/** Show the moment of the clip, in seconds, in the player. */
export function seekClip(seconds) {
  const player = document.querySelector('#cs-clip video');
  if (!player) return;
  player.pause();
  player.currentTime = seconds;
}
