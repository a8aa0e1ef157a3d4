// The status line: a lamp, the facts, and why the model was chosen.

import { COUNT, make, setText } from './dom.js';

export function mount(part) {
  const { root, followValue } = part;
  const lamp = make('span', { class: 'cs-lamp', 'aria-hidden': 'true' });
  const facts = make('ul', { class: 'cs-status-items' });
  const reason = make('span', { class: 'cs-reason' });
  root.classList.add('cs-status');
  // The facts change with every caption, and seconds are counted at the start; what is said aloud is who answers.
  const said = make('span', { class: 'cs-hidden', role: 'status' });
  root.append(lamp, facts, reason, said);
  let named = '';

  followValue((status) => {
    root.dataset.state = status.state;
    while (facts.children.length > status.items.length) facts.lastChild.remove();
    while (facts.children.length < status.items.length) facts.append(make('li'));
    status.items.forEach((item, index) => {
      setText(facts.children[index], item.text);
      facts.children[index].title = item.title || '';
    });
    const [name] = status.items;
    // The model goes on being the one that was chosen for a reason, when it is asked by its own name afterwards.
    if (status.reason || name.title !== named) setText(reason, status.reason || '');
    named = name.title;
    setText(said, status.state === 'ready' ? `${name.text} is ready` : name.text.replace(COUNT, ''));
  });
}
