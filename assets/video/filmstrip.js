// The sampled frames of a clip in a row, with their times; choosing one moves the player there, or opens it in Attention.

import { make, setText } from '../common/dom.js';
import { seekClip } from './player.js';

export function mount(part) {
  const { root, trigger, followValue } = part;
  const facts = make('p', { class: 'cs-film-facts', role: 'status' });
  const strip = make('ol', { class: 'cs-film' });
  root.classList.add('cs-filmstrip');
  root.append(strip, facts);

  function makeFrame() {
    const picture = make('img', { alt: '', draggable: 'false' });
    const time = make('span', { class: 'cs-film-time' });
    const mark = make('span', { class: 'cs-film-mark' }, 'repeat');
    const button = make('button', { type: 'button', class: 'cs-film-frame' }, picture, make('span', { class: 'cs-film-foot' }, time, mark));
    const look = make('button', { type: 'button', class: 'cs-icon-button cs-film-look', title: 'Open in Attention' }, '↗');
    const frame = { node: make('li', {}, button, look), picture, time, mark, button, look, seconds: 0 };
    look.addEventListener('click', () => trigger('frame_wanted', { frame: shown.indexOf(frame) }));
    button.addEventListener('click', () => seekClip(frame.seconds));
    return frame;
  }

  const shown = [];
  followValue((value) => {
    while (shown.length > value.frames.length) shown.pop().node.remove();
    while (shown.length < value.frames.length) {
      const frame = makeFrame();
      shown.push(frame);
      strip.append(frame.node);
    }
    value.frames.forEach((data, index) => {
      const frame = shown[index];
      frame.seconds = data.seconds;
      if (frame.picture.getAttribute('src') !== data.src) frame.picture.src = data.src;
      setText(frame.time, data.time);
      frame.mark.hidden = !data.repeat;
      frame.button.classList.toggle('is-repeat', data.repeat);
      frame.button.setAttribute('aria-label', `Frame at ${data.time}${data.repeat ? ', differs little from the one before' : ''}; show it in the player`);
      frame.look.setAttribute('aria-label', `Open the frame at ${data.time} in Attention`);
      frame.button.title = data.repeat ? 'Differs little from the one before' : '';
    });
    setText(facts, value.facts);
    strip.hidden = !value.frames.length;
    facts.hidden = !value.facts;
    root.hidden = strip.hidden && facts.hidden;
  });
}
